"""A plug-in for pytest, for llm's own tests: each collection has a default index from its first
item on, and questions are answered by it. Fails the run when hardly any was."""

import json

import pytest

ANSWERED = []  # whether each question was answered by an index


def index_after(method):
    """The method, and then a default index of the collection where it has items."""
    def write(self, *arguments, **more):
        import annex

        method(self, *arguments, **more)
        connection = self.db.conn
        annex.load(connection)
        has = "SELECT 1 FROM annex_indexes WHERE source = ?"
        if self.count() and not connection.execute(has, (self.name,)).fetchone():
            options = json.dumps({"llm_collection": self.name, "default": True})
            connection.execute("SELECT annex_create(?, 'embeddings', 'embedding', ?)",
                               (f"{self.name}-idx", options)).fetchone()
            connection.commit()

    return write


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    import annex.llm_plugin  # noqa: F401  what LLM_LOAD_PLUGINS=annex loads
    from annex import llm_similar
    from llm import Collection

    Collection.embed = index_after(Collection.embed)
    many = index_after(Collection.embed_multi_with_metadata)
    Collection.embed_multi_with_metadata = many
    by_index = llm_similar._by_index

    def counted(question):
        found = by_index(question)
        ANSWERED.append(found is not None)
        return found

    llm_similar._by_index = counted


def pytest_sessionfinish(session):
    print(f"\nanswered by an index: {sum(ANSWERED)} of {len(ANSWERED)} questions")
    if sum(ANSWERED) < 10:
        session.exitstatus = 1
