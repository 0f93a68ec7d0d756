# Packages that tests take from npm, once per lock file. It is read by the setup.sh of a folder with package.json and package-lock.json,
# which sets `here` (that folder), `home` (below target) and `say`, which tells what the tests leave out.

# True if the packages are there as the lock file has them.
npm_is_there() { [ -d "$home/node_modules" ] && cmp -s "$here/package-lock.json" "$home/package-lock.json"; }

# Installs them beside, then moves them: an interrupted run leaves nothing that looks whole.
npm_fetch() {
    command -v npm >/dev/null 2>&1 || { say 'Node.js or npm is not installed'; return; }
    rm -rf "$home.new"
    mkdir -p "$home.new"
    cp "$here/package.json" "$here/package-lock.json" "$home.new/"
    if timeout 120 npm ci --prefix "$home.new" --ignore-scripts --no-audit --no-fund --loglevel=error >"$home.new/log" 2>&1; then
        rm -rf "$home"
        mv "$home.new" "$home"
    else
        say "npm ci failed ($(grep -m 1 'npm error' "$home.new/log" || echo 'no answer within two minutes'))"
        rm -rf "$home.new"
    fi
}
