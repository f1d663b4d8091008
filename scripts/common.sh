# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh disable=SC2034 # read by the scripts that source this
#
# What the scripts share: where things are, how they speak, --base, --config, --arch.

root=$(cd "$(dirname "$0")/.." && pwd)
self=$(basename "$0")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dma_map
# The version that the files at the root are for
own_base=6.12
base=$own_base
config=default
# Scripts that a script runs have it from there.
arch=${DMA_MAP_ARCH:-x86_64}
number=0
failed=0

# The comment at the head of a script is its help.
usage() { sed -n '3,/^$/s/^# \{0,1\}//p' "$0"; }

# Standard output is for results (a guest's console, counts); this is not one.
say() { echo "$self: $*" >&2; }
die() { say "$@"; exit 1; }

# Takes the options that every script knows; the caller shifts by $taken and
# looks at what is left.
common_options() {
	taken=0
	while [ $# -gt 0 ]; do
		case $1 in
		-h | --help) usage; exit 0 ;;
		--base) [ $# -gt 1 ] || die "--base needs a version; -h shows the usage"
			base=$2; shift 2; taken=$((taken + 2)) ;;
		--config) [ $# -gt 1 ] || die "--config needs a name; -h shows the usage"
			config=$2; shift 2; taken=$((taken + 2)) ;;
		--arch) [ $# -gt 1 ] || die "--arch needs a name; -h shows the usage"
			arch=$2; shift 2; taken=$((taken + 2)) ;;
		*) break ;;
		esac
	done
	patches=$root/patches/$base
	src=$root/build/$base/src
	pristine=$root/build/$base/pristine
	out=$root/build/$base/$config
	[ "$arch" = x86_64 ] || out=$root/build/$base/$arch-$config
	# Of guests that run at the same time, each has its own.
	console=${DMA_MAP_CONSOLE:-$out/console}
	[ -d "$patches" ] ||
		die "no series for Linux $base; there is: $(cd "$root/patches" && echo *)"
	[ -f "$root/scripts/config/$config" ] ||
		die "no configuration $config; there is: $(cd "$root/scripts/config" && echo *)"
	[ -f "$root/scripts/arch/$arch" ] ||
		die "no architecture $arch; there is: $(cd "$root/scripts/arch" && echo * |
			sed 's/ [^ ]*\.config//g')"
	# shellcheck source=arch/x86_64
	. "$root/scripts/arch/$arch"
	export DMA_MAP_ARCH="$arch"
}

# fetched PACKAGE [ARCHITECTURE]: where scripts/fetch unpacks it
fetched() { echo "$cache/packages/$1_${2:-$(dpkg --print-architecture)}"; }

# Debian's package of the kernel source: installed or, where the machine's own
# apt set-up does not offer it, fetched. Its version, and what is in it.
# shellcheck disable=SC2016 # dpkg-query's own variable
source_version() {
	cat "$(fetched "linux-source-$base")/.version.dma_map" 2>/dev/null ||
		dpkg-query -W -f '${Version}' "linux-source-$base" 2>/dev/null
}
source_tarball() {
	tarball=usr/src/linux-source-$base.tar.xz
	if [ -f "$(fetched "linux-source-$base")/$tarball" ]; then
		echo "$(fetched "linux-source-$base")/$tarball"
	else
		echo "/$tarball"
	fi
}

# Where the machine has Debian from: a line "LABEL URI" an archive
archives() {
	# shellcheck disable=SC2016 # apt's own variables
	apt-get indextargets --format '$(CREATED_BY) $(ORIGIN) $(LABEL) $(REPO_URI)' 2>/dev/null |
		sed -n 's/^Packages Debian \(Debian[^ ]*\) /\1 /p' | sort -u
}

# unpack DIRECTORY: Debian's source, unless it is there in this version.
unpack() {
	version=$(source_version) || die "linux-source-$base is not here; scripts/deps gets it"
	[ "$(cat "$1/.version.dma_map" 2>/dev/null)" != "$version" ] || return 0
	say "unpacking Linux $version (some 90000 files, half a minute)"
	rm -rf "$1.new" "$1"
	[ "$1" != "$src" ] || rm -rf "$pristine"
	mkdir -p "$1.new"
	tar -C "$1.new" --strip-components=1 -xf "$(source_tarball)" ||
		die "$(source_tarball) does not unpack; reinstall linux-source-$base"
	echo "$version" >"$1.new/.version.dma_map"
	mv "$1.new" "$1"
}

# What stands in Documentation itself is in no patch: the man page goes to the
# man-pages project, and the rest is about this one.
outside_series='^Documentation/[^/]*$'

# Files at the root that stand there for the kernel's tree, by their path in it.
new_files() (
	cd "$root" || exit
	{
		git ls-files -co --exclude-standard -- \
			Documentation arch include mm tools 2>/dev/null ||
			find Documentation arch include mm tools -type f
	} | sort | grep -v "$outside_series" | while read -r file; do
		if [ -f "$file" ]; then echo "$file"; fi
	done
)

# root_files DIRECTORY: puts these files there; own_files as this base has them. The
# root has them as one version wants them; what differs is in own.diff.
root_files() {
	new_files | while read -r file; do
		mkdir -p "$1/$(dirname "$file")"
		cp -p "$root/$file" "$1/$file"
	done
}
own_files() {
	root_files "$1"
	[ -f "$patches/own.diff" ] || return 0
	patch -d "$1" -p1 -F0 -s -f -r - --no-backup-if-mismatch <"$patches/own.diff" >&2 ||
		die "patches/$base/own.diff does not fit the root's files any more;" \
			"mend it by hand, then see scripts/difference -h"
}

# own_difference A B: from the directory A of such files to B, the same each time
own_difference() (
	cd "$1" || exit
	{ find . -type f; cd "$2" && find . -type f; } | sed 's,^\./,,' | sort -u |
		while read -r file; do
			diff -u --label "a/$file" --label "b/$file" "$1/$file" "$2/$file" || :
		done
)

# The patches in a directory, in order, without the cover letter.
series() { find "$1" -name '[0-9]*.patch' ! -name '0000-*' | sort; }

# What these patches touch of what the kernel has, and what they add to it.
touched() { sed -n 's,^--- a/,,p' "$@" | sort -u; }
added() { awk '/^--- / { new = $2 == "/dev/null"; next }
	new && sub("^\\+\\+\\+ b/", "") { print; new = 0 }' "$@" | sort -u; }

# pristine_copy DIRECTORY FILE...: copies files as Debian ships them. The first
# to ask for one takes it from build/VERSION/src, which nobody touched there.
pristine_copy() (
	to=$1
	shift
	mkdir -p "$to" "$pristine"
	for file; do
		[ -f "$src/$file" ] || die "the series touches $file, which Linux $base has not"
		mkdir -p "$(dirname "$pristine/$file")" "$(dirname "$to/$file")"
		[ -f "$pristine/$file" ] || cp -p "$src/$file" "$pristine/$file"
		cp -p "$pristine/$file" "$to/$file"
	done
)

# fresh_tree DIRECTORY: Debian's source, to patch step by step. What was there goes.
fresh_tree() {
	say "unpacking a tree to patch step by step"
	rm -rf "$1"
	mkdir -p "$1"
	tar -C "$1" --strip-components=1 -xf "$(source_tarball)" ||
		die "$(source_tarball) does not unpack; reinstall linux-source-$base"
}

# Whether a patch has anything that a kernel is built of.
has_code() {
	{ touched "$1"; added "$1"; } | grep -qvE '^(Documentation/|tools/|MAINTAINERS$)'
}

# result STATUS NAME: a line of TAP. results ends them, with its status.
result() {
	number=$((number + 1))
	if [ "$1" = 0 ]; then
		echo "ok $number $2"
	else
		failed=$((failed + 1))
		echo "not ok $number $2"
	fi
}
results() {
	echo "1..$number"
	echo "$((number - failed)) passed, $failed failed"
	[ "$number" != 0 ] && [ "$failed" = 0 ]
}

# device_options DEVICE FILE: sets options, of QEMU, for a guest that has what the
# driver of that name drives; size, where that is a disk, which FILE is to be; and
# shows, the tests that show the most to a person, where not all do.
device_options() {
	grep -qx '# with: devices' "$root/scripts/config/$config" ||
		die "a kernel of the configuration $config has not what drivers need; default has"
	size=
	shows=
	drive="format=raw,file=$2"
	case $1 in
	floppy) size=1440K; shows=is_read_whole
		options="-drive if=floppy,$drive" ;;
	nvme) size=16M; shows="is_read_whole one_page_is_a_pattern_of_the_disk"
		options="-drive if=none,id=disk,$drive -device nvme,serial=1998,drive=disk" ;;
	clients) size=4M; options="-drive if=virtio,$drive" ;;
	edu) options="-device edu"
		shows="gives_back_what_it_was_given interrupt_tells_the_end" ;;
	nic) options="-netdev user,id=net -device e1000,netdev=net" ;;
	vfio) options="-machine q35,kernel-irqchip=split -device intel-iommu,intremap=on -device edu"
		shows="physical_address_is_blocked mapped_address_works large_chunks_become_large_pages" ;;
	*) die "no device $1; there is: floppy nvme clients edu nic vfio" ;;
	esac
}

# complaints CONSOLE: what a guest's kernel found wrong with itself. Its lines
# are told from the programs' by their time stamp. A test of the OOM killer has
# "oom" in its name, and gets its trace.
complaints() {
	time='\[ *[0-9]+\.[0-9]+\](\[ *[TC][0-9]+\])?'
	bad='Kernel panic|BUG|WARNING|Oops|UBSAN|KASAN|KFENCE|KCSAN|Call Trace:|INFO: .*(lock|stall|block)|possible (circular|recursive)|suspicious RCU|soft lockup|general protection|Bad page|page allocation failure|stack guard page|unreferenced object'
	bad="$time.*($bad)|^unreferenced object" awk '
		/^# +RUN / { test = $3 }
		/ invoked oom-killer: / && test ~ /oom/ { expected = 1 }
		expected && /Call Trace:/ { expected = 0; next }
		$0 ~ ENVIRON["bad"]' "$1"
}

# Everything but the line of counts that a script ends with
without_counts() { sed -u '/^[0-9]* passed, [0-9]* failed$/d'; }

# total FILE...: the sum of the counts that these end with. No counts is a
# failure of the script that owed them.
total() {
	for tap; do
		tail -n 1 "$tap" | grep -xE '[0-9]+ passed, [0-9]+ failed' || echo 0 passed, 1 failed
	done | awk '{ passed += $1; failed += $3 }
		END { print passed + 0 " passed, " failed + 0 " failed"; exit !(passed && !failed) }'
}

# Runs a command, telling its result by a file: a pipe would lose it.
logged() {
	logged_to=$1
	shift
	rm -f "$logged_to.failed"
	{ "$@" 2>&1 || echo failed >"$logged_to.failed"; } | tee "$logged_to"
}

# progress OF: reads what a kernel's build prints. One line that counts on a
# terminal, one every 200 objects elsewhere.
progress() {
	n=0
	while read -r what object _; do
		case $what in
		CC | AS | AR | LD | HOSTCC) n=$((n + 1)) ;;
		*) continue ;;
		esac
		if [ -t 2 ]; then
			printf '\r%-72.72s' "$self: $n built$1, $object" >&2
		elif [ $((n % 200)) = 0 ]; then
			say "$n built$1"
		fi
	done
	if [ -t 2 ] && [ "$n" != 0 ]; then echo >&2; fi
}
