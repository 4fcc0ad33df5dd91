#!/usr/bin/env bash
# Rebuilds the vendored files from their npm packages and writes VENDOR.json. For maintainers: needs node, npm and
# python3; people who install or run the CRM need none of them. Change a version below, run it, then run the tests.
set -euo pipefail

HTMX=4.0.1
ECHARTS=6.1.0
ESBUILD=0.28.2

here="$(cd "$(dirname "$0")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

cp "$here/echarts-entry.js" "$work/"
cd "$work"
npm init -y >/dev/null
npm install --no-audit --no-fund --save-exact "htmx.org@$HTMX" "echarts@$ECHARTS" "esbuild@$ESBUILD" >/dev/null

node_modules/.bin/esbuild echarts-entry.js --bundle --minify --format=iife --global-name=echarts --target=es2020 \
  --legal-comments=none --define:process.env.NODE_ENV='"production"' --log-level=warning --outfile=echarts.min.js
cp node_modules/htmx.org/dist/htmx.min.js htmx.min.js

VENDOR_OUT="$here" python3 - <<'PY'
import hashlib, json, os, pathlib, re, shutil

out = pathlib.Path(os.environ["VENDOR_OUT"])
modules = pathlib.Path("node_modules")


def package(name):
    return json.loads((modules / name / "package.json").read_text())


def banner(name):
    about = package(name)
    return f"/*! {name} {about['version']} | {about['license']} | licence text beside this file */\n"


def publish(source, target, name):
    text = pathlib.Path(source).read_text(encoding="utf-8")
    # The manifest storage would follow such a comment to a file that is not shipped.
    text = re.sub(r"//[#@] ?sourceMappingURL=\S*", "", text).strip() + "\n"
    (out / target).write_text(banner(name) + text, encoding="utf-8")


publish("htmx.min.js", "htmx.min.js", "htmx.org")
publish("echarts.min.js", "echarts.min.js", "echarts")
for source, target in {
    "htmx.org/LICENSE": "LICENSE-htmx.txt",
    "echarts/LICENSE": "LICENSE-echarts.txt",
    "echarts/NOTICE": "NOTICE-echarts.txt",
    "echarts/licenses/LICENSE-d3": "LICENSE-d3.txt",
    "zrender/LICENSE": "LICENSE-zrender.txt",
    "tslib/LICENSE.txt": "LICENSE-tslib.txt",
}.items():
    shutil.copyfile(modules / source, out / target)


def entry(file, name, licences, **more):
    about = package(name)
    return {
        "file": file,
        "name": name,
        "version": about["version"],
        "licence": about["license"],
        "source": f"npm:{name}@{about['version']}",
        "licence_files": licences,
        "sha256": hashlib.sha256((out / file).read_bytes()).hexdigest(),
        **more,
    }


def part(name):
    about = package(name)
    return {"name": name, "version": about["version"], "licence": about["license"]}


record = [
    entry("htmx.min.js", "htmx.org", ["LICENSE-htmx.txt"]),
    entry(
        "echarts.min.js",
        "echarts",
        ["LICENSE-echarts.txt", "NOTICE-echarts.txt", "LICENSE-d3.txt", "LICENSE-zrender.txt", "LICENSE-tslib.txt"],
        contains=[part("zrender"), part("tslib")],
        built_with=f"esbuild {package('esbuild')['version']} from echarts-entry.js",
    ),
]
(out / "VENDOR.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
for row in record:
    print(row["name"], row["version"], (out / row["file"]).stat().st_size, "bytes")
PY
