# Builder of a package's stand-in (stubs.nix).
set -eu
mkdir "$out"
echo "$group" >"$out/standin-debs"
if [ -n "$aliases" ]; then
    # Programs that Debian calls otherwise: nixpkgs' name=Debian's.
    mkdir "$out/bin"
    echo "$aliases" | while IFS='=' read -r as program; do
        ln -s "/usr/bin/$program" "$out/bin/$as"
    done
else
    ln -s "/usr/lib/standin/packages/$group/bin" "$out/bin"
fi
ln -s bin "$out/sbin"
ln -s /usr/share "$out/share"
ln -s /usr/lib "$out/lib"
