#!/usr/bin/env bash
# Makes DIR/python, an ARM Python under qemu-aarch64 that imports tfdistill and ai-edge-litert's wheel for ARM. Tried on Debian 12.
#
#     bash tests/arm64/machine.sh DIR PYTHON
#
# PYTHON is one of this machine with pip. Debian's packages are fetched for ARM and unpacked into DIR: nothing is installed, no root needed.
set -euo pipefail
dir=$(realpath -m "$1") host_python=$2
repository=$(realpath "$(dirname "$0")/../..")

for tool in apt-get dpkg dpkg-deb; do
  command -v $tool > /dev/null || { echo "found no $tool; the ARM machine is made of Debian's packages" >&2; exit 1; }
done

rm -rf "$dir"
mkdir -p "$dir"/{root,site,tfdistill} "$dir"/apt/{state/lists/partial,cache/archives/partial}
: > "$dir/apt/state/status" # nothing is installed yet, so that apt fetches all that Python needs

native=$(dpkg --print-architecture)
apt() {
  apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o "APT::Architectures::=$native" \
    -o "Dir::State=$dir/apt/state" -o "Dir::State::status=$dir/apt/state/status" -o "Dir::Cache=$dir/apt/cache" \
    -o Debug::NoLocking=1 -o "APT::Sandbox::User=$(id -un)" "$@"
}
apt update
apt install --yes --download-only --no-install-recommends \
  python3-minimal:arm64 libpython3-stdlib:arm64 libstdc++6:arm64 "qemu-user-static:$native" \
  || { echo "apt has no Python for arm64 here; this was tried on Debian 12" >&2; exit 1; }
for package in "$dir"/apt/cache/archives/*.deb; do
  dpkg-deb -x "$package" "$dir/root"
done
rm -rf "$dir/apt"

# LiteRT reads there what processor it runs on, and crashes on what this machine's kernel says. It is a phone's core of 2018, with
# int8 dot products.
mkdir -p "$dir/root/proc" "$dir/root/sys/devices/system/cpu"
cat > "$dir/root/proc/cpuinfo" << 'CPU'
processor	: 0
BogoMIPS	: 100.00
Features	: fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x4
CPU part	: 0xd0b
CPU revision	: 1
CPU
echo 0 | tee "$dir/root/sys/devices/system/cpu/possible" > "$dir/root/sys/devices/system/cpu/present"

# The versions of requirements.lock, checked by its hashes.
interpreter=$(basename "$(readlink -f "$dir/root/usr/bin/python3")")
awk '/^(ai-edge-litert|numpy)==/ { on = 1 } on; !/\\$/ { on = 0 }' "$repository/requirements.lock" > "$dir/requirements.txt"
"$host_python" -m pip install -qq --target "$dir/site" --no-deps --require-hashes --only-binary :all: \
  --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 --python-version "${interpreter#python}" \
  -r "$dir/requirements.txt"
ln -s "$repository"/tfdistill/* "$repository/export" "$dir/tfdistill/"

cat > "$dir/python" << RUN
#!/usr/bin/env bash
export PYTHONPATH="$dir:$dir/site"
exec "$dir/root/usr/bin/qemu-aarch64-static" -cpu cortex-a76 -L "$dir/root" "$dir/root/usr/bin/$interpreter" "\$@"
RUN
chmod +x "$dir/python"
