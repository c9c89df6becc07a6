# Functions that make bootable images of Debian's cloud kernel and of this host's own programs.  Sourced by image.sh and guest.sh.
# DIR is where the kernel is kept: DIR/vmlinuz, DIR/kernel/lib/modules/… and DIR/kernel/version.
export PATH=$PATH:/usr/sbin:/sbin

# fetch_kernel DIR: downloads the kernel package that the metapackage depends on and unpacks it; once, it stays in DIR.  apt checks
# the package's signature.  Nothing is installed.
fetch_kernel() {
	local dir=$1 new package version
	if [ -e "$dir/kernel/version" ]; then return; fi
	mkdir -p "$dir"
	new=$(mktemp -d "$dir/kernel.XXXXXX")
	chmod 755 "$new"
	package=$(newest_kernel)
	if [ -z "$package" ]; then
		apt-get update -qq
		package=$(newest_kernel)
	fi
	if [ -z "$package" ]; then
		echo "kernel: apt knows no package linux-image-cloud-amd64" >&2
		return 1
	fi
	echo "kernel: downloading $package" >&2
	# Old package lists name versions that the mirror no longer has.
	(cd "$new" && { apt-get download -qq "$package" 2>/dev/null || { apt-get update -qq && apt-get download -qq "$(newest_kernel)"; }; })
	dpkg-deb -x "$new"/linux-image-*.deb "$new"
	rm "$new"/linux-image-*.deb
	version=$(ls "$new/lib/modules")
	depmod -b "$new" "$version"
	cp "$new/boot/vmlinuz-$version" "$dir/vmlinuz"
	echo "$version" >"$new/version"
	rm -rf "$dir/kernel"
	mv "$new" "$dir/kernel"
}

newest_kernel() {
	apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1
}

# new_root ROOT: an empty root file system.
new_root() {
	mkdir -p "$1"/{usr,dev,proc,sys,run,tmp,etc,root,var/lib,usr/share,lib,lib64,bin}
	# One directory of commands and one of libraries, under all their names.
	ln -s ../bin "$1/usr/bin"
	ln -s ../bin "$1/usr/sbin"
	ln -s bin "$1/sbin"
	ln -s ../lib "$1/usr/lib"
	ln -s ../run "$1/var/run"
}

# copy_modules DIR ROOT MODULE...: copies modules and all that they depend on, and their index.
copy_modules() {
	local dir=$1 root=$2 version from file
	shift 2
	version=$(cat "$dir/kernel/version")
	from=$dir/kernel/lib/modules/$version
	# modules.dep lists every module's dependencies to the last: one look-up is the closure.
	printf '%s\n' "$@" | tr - _ | awk -v dep="$from/modules.dep" '
		BEGIN {
			while ((getline line < dep) > 0) {
				split(line, a, ":"); name = a[1]; sub(/.*\//, "", name); sub(/\.ko.*/, "", name); gsub(/-/, "_", name)
				sub(/:/, "", line); files[name] = line
			}
		}
		$0 in files { print files[$0]; next }
		{ print "kernel: no module " $0 > "/dev/stderr"; bad = 1 }
		END { exit bad }' | tr ' ' '\n' | sort -u | while read -r file; do
		[ -n "$file" ] || continue
		mkdir -p "$root/lib/modules/$version/${file%/*}"
		cp "$from/$file" "$root/lib/modules/$version/$file"
	done
	cp "$from"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$version/"
	depmod -b "$root" "$version"
}

# copy_commands ROOT COMMAND...: copies programs with the libraries they are linked with.
copy_commands() {
	local root=$1 command path lib
	shift
	for command in "$@"; do
		path=$(command -v "$command") || { echo "kernel: no command $command on this host; run: make setup" >&2; return 1; }
		cp -L "$path" "$root/bin/$command"
		{ ldd "$path" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r lib; do
			mkdir -p "$root${lib%/*}"
			[ -e "$root$lib" ] || cp -L "$lib" "$root$lib"
		done
	done
}

# busybox_rest ROOT: busybox stands in for every command that is not there.
busybox_rest() {
	local applet
	for applet in $(busybox --list); do
		[ -e "$1/bin/$applet" ] || ln -s busybox "$1/bin/$applet"
	done
}

# pack ROOT FILE: makes the archive.  It is not compressed: unpacking would take an emulated machine longer than reading.
pack() {
	(cd "$1" && find . | busybox cpio -o -H newc 2>/dev/null) >"$2.new"
	mv "$2.new" "$2"
}
