#!/usr/bin/env bash
# Shows Annex on the example database: 3,494 words of WordNet, their definitions, and embeddings of
# them. Works on a copy, and leaves nothing behind.
#
#   examples/demo.sh [BUILD]
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(cd "${1:-build}" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export XDG_CACHE_HOME=$folder/cache
database=$folder/wordnet.db
cp examples/wordnet.db "$database"

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
else
    bold='' dim='' plain=''
fi

tables='.mode box --wrap 66 --wordwrap on'

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# A program with Annex: the sqlite3 shell with the extension loaded.
with_annex() {
    printf '%ssqlite3 wordnet.db  -- with annex.so\n%s%s\n' "$dim" "$1" "$plain"
    sqlite3 -batch "$database" ".load $build/annex.so" "$tables" "$1"
}

# A program that has never heard of Annex.
without_annex() {
    printf '%ssqlite3 wordnet.db  -- nothing loaded\n%s%s\n' "$dim" "$1" "$plain"
    sqlite3 -batch "$database" "$tables" "$1"
}

command_line() {
    printf '%sannex %s%s\n' "$dim" "$*" "$plain"
    (cd "$folder" && "$build/annex" "$@")
}

nearest="SELECT s.word, s.gloss, round(a.distance, 3) AS distance
  FROM annex_search('synsets_idx', (SELECT embedding FROM queries WHERE id = %d), 5) AS a
  JOIN synsets AS s ON s.id = a.key
 ORDER BY a.distance;"
ask() {
    say "\"$(sqlite3 "$database" "SELECT text FROM queries WHERE id = $1")\""
    # shellcheck disable=SC2059
    with_annex "$(printf "$nearest" "$1")"
}

say "An ordinary table: $(sqlite3 "$database" 'SELECT count(*) FROM synsets') words with embeddings"
without_annex 'SELECT word, pos, gloss, length(embedding) FROM synsets WHERE id % 900 = 1;'

say 'Give it an index'
with_annex "SELECT annex_create('synsets_idx', 'synsets', 'embedding',
                    '{\"metric\": \"cosine\"}') AS created;"

ask 38
ask 5

say 'Only verbs: the rows that match are searched, so five come back'
with_annex "SELECT s.word, s.gloss, round(a.distance, 3) AS distance
  FROM annex_search('synsets_idx', (SELECT embedding FROM queries WHERE id = 25), 5) AS a
  JOIN synsets AS s ON s.id = a.key
 WHERE a.key IN (SELECT id FROM synsets WHERE pos = 'verb')
 ORDER BY a.distance;"

say 'A program without Annex adds a word'
without_annex "INSERT INTO synsets(word, pos, gloss, embedding)
  SELECT 'lullaby', 'noun', text, embedding FROM queries WHERE id = 34;"
say 'and it is found at once'
ask 34

say 'The same from the shell'
command_line list wordnet.db
key=$(sqlite3 "$database" "SELECT id FROM synsets WHERE word = 'guitar'")
say "Neighbours of \"guitar\", which is row $key"
command_line search wordnet.db synsets_idx --like "$key" -k 5
say 'Words instead of keys: --csv feeds other programs'
printf '%sannex search wordnet.db --like %s -k 5 --csv | sqlite3 wordnet.db ...%s\n' \
    "$dim" "$key" "$plain"
"$build/annex" search "$database" --like "$key" -k 5 --csv |
    sqlite3 -batch "$database" '.import --csv --schema temp /dev/stdin hit' "$tables" \
        'SELECT word, gloss, round(distance, 3) AS distance FROM hit JOIN synsets ON id = key'
command_line info wordnet.db synsets_idx

say 'That was all: your table, one index, SQL. Next: README.md, docs/SQL.md, build/annex --help'
