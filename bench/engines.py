"""The peers: each library behind the same four calls, with the settings it is built in.

    build(rows, threads)     index the rows, f32, of length one when the metric is an angle
    save(folder)             as files; load(folder, rows) in a new process: some keep rows apart
    chains(k)                lists of efforts to try, each list from the quickest to the best
    search(queries, k, effort)   ids, one line per query, on one thread

An effort is what the library lets be chosen for each search: a number, or a few of them.
`default` names the settings measured unless all are asked for. Nothing is measured here. Euclidean
distance of unit vectors orders as their angle does: peers that lack one of them, or do better by
the other, get that. Libraries are imported when used: only one lives in a process.
"""

import json
import pathlib

import numpy as np

SEED = 1
WIDTHS = (10, 13, 16, 20, 25, 32, 40, 50, 63, 80, 100, 125, 160, 200, 250, 320, 400, 500, 640, 800)
WIDTHS += (1000, 1300, 1700, 2200, 3000)
PROBES = (1, 2, 4, 6, 9, 13, 19, 28, 40, 60, 90, 130, 190, 280)


class Peer:
    package = ""  # on PyPI
    environment = "peers"  # bench/run: the virtual environment it lives in
    settings = {}
    default = ()
    note = ""
    native_batch = True

    def __init__(self, metric, dimension, setting):
        self.metric, self.dimension = metric, dimension
        self.setting = self.settings[setting]

    def chains(self, k):
        return [[width for width in WIDTHS if width >= k]]


def one_file(folder):
    return str(pathlib.Path(folder) / "index")


class Hnswlib(Peer):
    """Inner product on unit vectors for angles: its cosine space normalises each query again."""

    package = "hnswlib"
    environment = "base"
    note = "compiled with -march=native"
    settings = {"M16": (16, 200), "M32": (32, 300)}
    default = ("M16",)

    def make(self):
        import hnswlib

        space = "l2" if self.metric == "euclidean" else "ip"
        return hnswlib.Index(space=space, dim=self.dimension)

    def build(self, rows, threads):
        links, effort = self.setting
        self.index = self.make()
        self.index.init_index(len(rows), M=links, ef_construction=effort, random_seed=SEED)
        self.index.add_items(rows, num_threads=threads)

    def save(self, folder):
        self.index.save_index(one_file(folder))

    def load(self, folder, rows):
        self.index = self.make()
        self.index.load_index(one_file(folder))

    def search(self, queries, k, effort):
        self.index.set_ef(effort)
        return self.index.knn_query(queries, k, num_threads=1)[0]


class Faiss(Peer):
    """FAISS by its factory strings; {half} is half the dimension."""

    package = "faiss-cpu"
    environment = "base"
    note = "the wheel picks its kernels at run time"
    settings = {
        "HNSW32": "HNSW32",
        "HNSW32,SQ8": "HNSW32_SQ8",
        "IVF1024,PQfs": "IVF1024,PQ{half}x4fs,RFlat",
        "IVF1024,RaBitQfs": "IVF1024,RaBitQfs,RFlat",
        "IVF1024,SQ8": "IVF1024,SQ8",
    }
    default = ("HNSW32", "IVF1024,PQfs")

    def build(self, rows, threads):
        import faiss

        faiss.omp_set_num_threads(threads)
        kind = faiss.METRIC_L2 if self.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        factory = self.setting.format(half=self.dimension // 2)
        self.index = faiss.index_factory(self.dimension, factory, kind)
        if factory.startswith("HNSW"):
            self.index.hnsw.efConstruction = 200
        self.index.train(rows)
        self.index.add(rows)

    def save(self, folder):
        import faiss

        faiss.write_index(self.index, one_file(folder))

    def load(self, folder, rows):
        import faiss

        faiss.omp_set_num_threads(1)
        self.index = faiss.read_index(one_file(folder))

    def chains(self, k):
        if self.setting.startswith("HNSW"):
            return super().chains(k)
        rerank = (3, 10) if self.setting.endswith("RFlat") else (1,)
        return [[[probes, factor] for probes in PROBES] for factor in rerank]

    def search(self, queries, k, effort):
        import faiss

        if self.setting.startswith("HNSW"):
            self.index.hnsw.efSearch = effort
        else:
            faiss.extract_index_ivf(self.index).nprobe = effort[0]
            if self.setting.endswith("RFlat"):
                self.index.k_factor = effort[1]
        return self.index.search(queries, k)[1]

    def exact(self, rows):
        """The flat index: exact search, one query per call."""
        import faiss

        flat = faiss.IndexFlat(self.dimension, faiss.METRIC_L2 if self.metric == "euclidean"
                               else faiss.METRIC_INNER_PRODUCT)
        flat.add(rows)
        return flat.search


class Usearch(Peer):
    """Its i8 takes numbers from -1 to 1: rows are divided by their largest, so that all fit."""

    package = "usearch"
    note = "the wheel picks its kernels at run time"
    settings = {"f32": "f32", "f16": "f16", "i8": "i8"}
    default = ("f32", "f16")

    def scaled(self, vectors):
        return vectors / self.scale if self.setting == "i8" else vectors

    def make(self, rows):
        from usearch.index import Index

        self.scale = np.float32(np.abs(rows).max())
        metric = "l2sq" if self.metric == "euclidean" else "ip"
        return Index(ndim=self.dimension, metric=metric, dtype=self.setting, connectivity=16,
                     expansion_add=128)

    def build(self, rows, threads):
        self.index = self.make(rows)
        self.index.add(np.arange(len(rows)), self.scaled(rows), threads=threads)

    def save(self, folder):
        self.index.save(one_file(folder))

    def load(self, folder, rows):
        self.index = self.make(rows)
        self.index.load(one_file(folder))

    def search(self, queries, k, effort):
        self.index.expansion_search = effort
        found = self.index.search(self.scaled(queries), k, threads=1)
        return found.keys.reshape(len(queries), -1)


class Scann(Peer):
    package = "scann"
    note = "wheel for AVX2 and AVX-512"
    settings = {"tree,AH": None}
    default = ("tree,AH",)

    def build(self, rows, threads):
        import scann

        leaves = int(len(rows) ** 0.5)
        kind = "squared_l2" if self.metric == "euclidean" else "dot_product"
        builder = scann.scann_ops_pybind.builder(rows, 10, kind)
        builder = builder.tree(leaves, leaves // 10, training_sample_size=min(len(rows), 200_000))
        threshold = 0.2 if kind == "dot_product" else float("nan")
        builder = builder.score_ah(2, anisotropic_quantization_threshold=threshold).reorder(100)
        builder.set_n_training_threads(threads)
        self.index = builder.build()

    def save(self, folder):
        self.index.serialize(str(folder))

    def load(self, folder, rows):
        import scann

        self.index = scann.scann_ops_pybind.load_searcher(str(folder))

    def chains(self, k):
        return [[[leaves, factor * k] for leaves in PROBES[2:]] for factor in (3, 10)]

    def search(self, queries, k, effort):
        leaves, reorder = effort
        if len(queries) == 1:
            found = self.index.search(queries[0], final_num_neighbors=k, leaves_to_search=leaves,
                                      pre_reorder_num_neighbors=reorder)[0]
            return padded([found], k)
        return padded(self.index.search_batched(
            queries, final_num_neighbors=k, leaves_to_search=leaves,
            pre_reorder_num_neighbors=reorder)[0], k)


class Svs(Peer):
    """Vamana of Intel's SVS; LVQ codes as its manual advises for few and for many dimensions."""

    package = "scalable-vs"
    note = "the wheel picks its kernels at run time"
    settings = {"f32": None, "LVQ8": {"primary": 8}, "LVQ4x8": {"primary": 4, "residual": 8}}
    default = ("LVQ8",)

    def build(self, rows, threads):
        import svs
        import tempfile

        parameters = svs.VamanaBuildParameters(
            alpha=1.2, graph_max_degree=64, window_size=128, prune_to=60,
            max_candidate_pool_size=192)
        with tempfile.TemporaryDirectory() as folder:
            source = rows
            if self.setting:
                svs.write_vecs(rows, f"{folder}/rows.fvecs")
                data = svs.VectorDataLoader(f"{folder}/rows.fvecs", svs.DataType.float32)
                source = svs.LVQLoader(data, **self.setting)
            self.index = svs.Vamana.build(parameters, source, svs.DistanceType.L2,
                                          num_threads=threads)

    def save(self, folder):
        self.index.save(f"{folder}/config", f"{folder}/graph", f"{folder}/data")

    def load(self, folder, rows):
        import svs

        data = (svs.LVQLoader if self.setting else svs.VectorDataLoader)(f"{folder}/data")
        self.index = svs.Vamana(f"{folder}/config", svs.GraphLoader(f"{folder}/graph"), data,
                                svs.DistanceType.L2, num_threads=1)

    def search(self, queries, k, effort):
        self.index.search_window_size = effort
        return self.index.search(queries, k)[0]


class Glass(Peer):
    """glass keeps the graph alone in its file: codes are made again from the rows when it loads."""

    package = "pyglass-portable"
    note = "wheel for AVX2; the file holds no vectors"
    settings = {"SQ8": (32, "SQ8U", "SQ8U"), "SQ4": (48, "SQ8U", "SQ4U"),
                "FP16": (32, "FP16", "FP16")}
    default = ("SQ8", "FP16")

    def build(self, rows, threads):
        import glass

        glass.set_num_threads(threads)
        degree, code, _ = self.setting
        self.graph = glass.Index("HNSW", "L2", code, R=degree, L=200).build(rows)

    def save(self, folder):
        self.graph.save(one_file(folder))

    def load(self, folder, rows):
        import glass

        glass.set_num_threads(1)
        graph = glass.Graph(one_file(folder))
        self.index = glass.Searcher(graph, rows, "L2", self.setting[2], "FP32")
        self.index.set_ef(32)
        self.index.optimize(1)

    def search(self, queries, k, effort):
        self.index.set_ef(effort)
        if len(queries) == 1:
            return self.index.search(queries[0], k)[0].reshape(1, -1)
        return self.index.batch_search(queries, k, 1)[0].reshape(len(queries), -1)


class Diskann(Peer):
    """The Vamana graph of DiskANN in memory."""

    package = "diskannpy"
    environment = "diskann"
    note = "wheel for AVX2"
    settings = {"R64": 64}
    default = ("R64",)

    def build(self, rows, threads):
        self.rows, self.threads = rows, threads

    def save(self, folder):  # its build writes the files
        import diskannpy

        diskannpy.build_memory_index(self.rows, "l2", str(folder), complexity=128, alpha=1.2,
                                     graph_degree=self.setting, num_threads=self.threads)

    def load(self, folder, rows):
        import diskannpy

        self.index = diskannpy.StaticMemoryIndex(str(folder), num_threads=1,
                                                 initial_search_complexity=max(WIDTHS))

    def search(self, queries, k, effort):
        if len(queries) == 1:
            return self.index.search(queries[0], k, effort).identifiers.reshape(1, -1)
        return self.index.batch_search(queries, k, effort, 1).identifiers


class Voyager(Peer):
    package = "voyager"
    note = "wheel for the least x86-64"
    settings = {"M16": (16, 200)}
    default = ("M16",)

    def build(self, rows, threads):
        import voyager

        links, effort = self.setting
        self.index = voyager.Index(voyager.Space.Euclidean, self.dimension, M=links,
                                   ef_construction=effort, random_seed=SEED,
                                   max_elements=len(rows))
        self.index.add_items(rows, num_threads=threads)

    def save(self, folder):
        self.index.save(one_file(folder))

    def load(self, folder, rows):
        import voyager

        self.index = voyager.Index.load(one_file(folder))

    def search(self, queries, k, effort):
        return self.index.query(queries, k, num_threads=1, query_ef=effort)[0]


class Nmslib(Peer):
    package = "nmslib"
    note = "wheel for SSE2"
    settings = {"HNSW,M16": (16, 200)}
    default = ("HNSW,M16",)

    def make(self):
        import nmslib

        return nmslib.init(method="hnsw", space="l2")

    def build(self, rows, threads):
        links, effort = self.setting
        self.index = self.make()
        self.index.addDataPointBatch(rows)
        self.index.createIndex({"M": links, "efConstruction": effort, "indexThreadQty": threads,
                                "post": 0})

    def save(self, folder):
        self.index.saveIndex(one_file(folder), save_data=True)

    def load(self, folder, rows):
        self.index = self.make()
        self.index.loadIndex(one_file(folder), load_data=True)

    def search(self, queries, k, effort):
        self.index.setQueryTimeParams({"efSearch": effort})
        if len(queries) == 1:
            return padded([self.index.knnQuery(queries[0], k)[0]], k)
        return padded([ids for ids, _ in self.index.knnQueryBatch(queries, k, num_threads=1)], k)


class Pynndescent(Peer):
    package = "pynndescent"
    note = "compiled for this processor by Numba"
    settings = {"n30": 30}
    default = ("n30",)

    def build(self, rows, threads):
        import pynndescent

        self.index = pynndescent.NNDescent(rows, n_neighbors=self.setting, metric="euclidean",
                                           n_jobs=threads, random_state=SEED)
        self.index.prepare()

    def save(self, folder):
        import pickle

        with open(one_file(folder), "wb") as file:
            pickle.dump(self.index, file)

    def load(self, folder, rows):
        import pickle

        with open(one_file(folder), "rb") as file:
            self.index = pickle.load(file)

    def chains(self, k):
        return [[round(0.02 * step, 2) for step in range(0, 22)]]

    def search(self, queries, k, effort):
        return self.index.query(queries, k, epsilon=effort)[0]


class Vsag(Peer):
    package = "pyvsag"
    note = "the wheel picks its kernels at run time"
    settings = {"HGraph,SQ8": "sq8_uniform", "HGraph,SQ4": "sq4_uniform"}
    default = ("HGraph,SQ8",)
    native_batch = False

    def make(self):
        import pyvsag

        pyvsag.set_logger_off()
        return pyvsag.Index("hgraph", json.dumps({
            "dtype": "float32", "metric_type": "l2", "dim": self.dimension,
            "index_param": {"base_quantization_type": self.setting, "max_degree": 32,
                            "ef_construction": 200, "build_thread_count": 2,
                            "use_reorder": True, "precise_quantization_type": "fp32"}}))

    def build(self, rows, threads):
        self.index = self.make()
        self.index.build(rows.ravel(), np.arange(len(rows)), len(rows), self.dimension)

    def save(self, folder):
        self.index.save(one_file(folder))

    def load(self, folder, rows):
        self.index = self.make()
        self.index.load(one_file(folder))

    def search(self, queries, k, effort):
        words = json.dumps({"hgraph": {"ef_search": effort}})
        return padded([self.index.knn_search(query, k, words)[0] for query in queries], k)


class Ngt(Peer):
    """ONNG. The quantized graph (QG) is made by a program that the wheel does not hold."""

    package = "ngt"
    note = "the wheel picks its kernels at run time; no QG in it"
    settings = {"ONNG": (10, 60)}
    default = ("ONNG",)
    native_batch = False

    def build(self, rows, threads):
        self.rows, self.threads = rows, threads

    def save(self, folder):  # its indexes are made in their folders
        import ngtpy

        outgoing, incoming = self.setting
        ngtpy.create(f"{folder}/anng", self.dimension, edge_size_for_creation=incoming,
                     edge_size_for_search=0)
        index = ngtpy.Index(f"{folder}/anng")
        index.batch_insert(self.rows, self.threads)
        index.save()
        index.close()
        optimizer = ngtpy.Optimizer(num_of_outgoings=outgoing, num_of_incomings=incoming,
                                    log_disabled=True)
        optimizer.set_processing_modes(True, False, False, False)  # its tuning never ended here
        optimizer.execute(f"{folder}/anng", f"{folder}/onng")

    def load(self, folder, rows):
        import ngtpy

        self.index = ngtpy.Index(f"{folder}/onng", read_only=True)

    def chains(self, k):
        return [[round(0.01 * step - 0.04, 2) for step in range(0, 30, 2)]]

    def search(self, queries, k, effort):
        return padded([self.index.search(query, k, epsilon=effort, with_distance=False)
                       for query in queries], k)


class Annoy(Peer):
    package = "annoy"
    note = "compiled with -march=native"
    settings = {"100 trees": 100}
    default = ("100 trees",)
    native_batch = False

    def make(self):
        import annoy

        return annoy.AnnoyIndex(self.dimension, "euclidean")

    def build(self, rows, threads):
        self.index = self.make()
        self.index.set_seed(SEED)
        for number, row in enumerate(rows):
            self.index.add_item(number, row)
        self.index.build(self.setting, n_jobs=threads)

    def save(self, folder):
        self.index.save(one_file(folder))

    def load(self, folder, rows):
        self.index = self.make()
        self.index.load(one_file(folder))

    def chains(self, k):
        return [[k * factor for factor in (10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120)]]

    def search(self, queries, k, effort):
        return padded([self.index.get_nns_by_vector(query, k, search_k=effort)
                       for query in queries], k)


def padded(lists, k):
    """Ids as an array, filled up with -1 where a library found fewer than k."""
    ids = np.full((len(lists), k), -1, np.int64)
    for line, found in zip(ids, lists):
        found = np.asarray(found).ravel()[:k]
        line[: len(found)] = found
    return ids


PEERS = {
    "hnswlib": Hnswlib, "faiss": Faiss, "usearch": Usearch, "scann": Scann, "svs": Svs,
    "glass": Glass, "diskann": Diskann, "voyager": Voyager, "nmslib": Nmslib,
    "pynndescent": Pynndescent, "vsag": Vsag, "ngt": Ngt, "annoy": Annoy,
}
DEFAULT = ("hnswlib", "faiss", "usearch", "scann", "svs", "glass")
