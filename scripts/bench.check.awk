# SPDX-License-Identifier: GPL-2.0
#
# Tells as TAP which targets the figures of bench meet. same: whether a second
# run had the same; known: whether to put up with what bench.missed lists, that
# is "NAME FIGURE" a line, as long as it is no worse. As compilers differ, two
# in a hundred are no worse.

BEGIN { FS = ","; print "TAP version 13"; KIB = 1024; MIB = 1048576; GIB = 1073741824 }

FILENAME ~ /missed$/ {
	if (!/^#/ && split($0, word, " ") == 2) missed[word[1]] = word[2]
	next
}

$2 == "fresh" || $2 == "recycled" {
	setup[$1, $2, $3] = $4
	teardown[$1, $2, $3] = $5
	if ($1 == "dma_map") {
		sizes[++nr_sizes] = $2 SUBSEP $3
		tables[$2, $3] = $7
		faults[$2, $3] = $8
	}
}
$1 == "entries" { entries[++nr_entries] = $0 }
$1 == "contiguous" { contiguous[++nr_contiguous] = $0 }
$1 == "limited" { limited = $0 }
$1 == "signal" { signal = $0 }

function result(met, name, text) {
	n++
	if (met) {
		passed++
		print "ok " n " " name ": " text
	} else if (known && name in missed) {
		known_misses++
		print "not ok " n " " name ": " text " # XFAIL known, " missed[name]
	} else {
		failed++
		print "not ok " n " " name ": " text
	}
}

function at_most(name, figure, bound) {
	if (name in missed && figure > missed[name] * 1.02) delete missed[name]
	result(figure <= bound, name, sprintf("%.10g, at most %.10g", figure, bound))
}

function at_least(name, figure, bound) {
	if (name in missed && figure < missed[name] / 1.02) delete missed[name]
	result(figure >= bound, name, sprintf("%.10g, at least %.10g", figure, bound))
}

function size(bytes) {
	if (bytes >= GIB) return bytes / GIB "g"
	if (bytes >= MIB) return bytes / MIB "m"
	return bytes / KIB "k"
}

function cost_targets(key,	part, memory, bytes, pages, where, gigabytes) {
	split(key, part, SUBSEP)
	memory = part[1]
	bytes = part[2]
	pages = bytes / 4096
	where = "." memory "." size(bytes)
	key = SUBSEP memory SUBSEP bytes

	at_most("set_up" where, setup["dma_map" key], 6400 + 535 * pages)
	at_most("munmap" where, teardown["dma_map" key], 5000 + 25 * pages)
	at_most("set_up_of_populate" where, setup["dma_map" key], setup["populate" key])
	at_most("both_of_populate" where, setup["dma_map" key] + teardown["dma_map" key],
		setup["populate" key] + teardown["populate" key])
	if (bytes >= 64 * KIB)
		at_least("ratio_to_mlock" where, setup["mlock" key] / setup["dma_map" key], 4)
	if (bytes >= 2 * MIB) {
		at_most("set_up_of_hugetlb" where, setup["dma_map" key], setup["hugetlb" key])
		# Of the tables that PMDs are in there is one for each GiB begun.
		gigabytes = int((bytes + GIB - 1) / GIB)
		at_most("page_tables" where, tables[memory, bytes], gigabytes)
	}
	at_most("faults" where, faults[memory, bytes], 0)
	if (("constrained" key) in setup) {
		at_most("set_up_constrained" where, setup["constrained" key],
			setup["dma_map" key] * 1.1)
		at_most("munmap_constrained" where, teardown["constrained" key],
			teardown["dma_map" key] * 1.1)
	}
}

# Flat: what a page costs is the same for 16 MiB and 1 GiB.
function flat(memory) {
	at_most("flat." memory, setup["dma_map", memory, GIB] / 64,
		setup["dma_map", memory, 16 * MIB] * 1.01)
}

# percent, bytes, entries, fewest, stalls, kills
function entry_targets(line,	field, where) {
	split(line, field, ",")
	where = "." field[2] "." field[3]
	at_most("entries" where, field[4], field[5] * 1.1)
	at_most("stalls" where, field[6], 0)
	at_most("kills" where, field[7], 0)
}

# fill, MiB, had, of so many tries where there was enough, cost, that of the
# CMA heap, moved, what first fit would move, what the best window would,
# moved for nothing, percent filled, and of the area of the CMA heap
function contiguous_targets(line,	field, where) {
	split(line, field, ",")
	where = "." field[2] "." field[3] "m"
	if (field[5])
		at_least("contiguous" where, field[4] / field[5], 0.99)
	if (field[6] && field[7])
		at_most("cost_of_cma" where, field[6] / field[7], 1)
	if (field[6] && field[2] ~ /-50$/ && field[9] > 0)
		at_most("moved_of_first_fit" where, field[8] / field[9], 0.5)
	at_most("moved_for_nothing" where, field[11], 0)
}

END {
	result(same, "same_in_a_second_run", same ? "the same" : "other figures")
	for (i = 1; i <= nr_sizes; i++) cost_targets(sizes[i])
	flat("fresh")
	flat("recycled")
	for (i = 1; i <= nr_entries; i++) entry_targets(entries[i])
	for (i = 1; i <= nr_contiguous; i++) contiguous_targets(contiguous[i])

	# pages had, pages free before, errno, above the limit, pages missing
	# afterwards, pages of the next zone
	split(limited, field, ",")
	at_least("limited.share", field[2] / field[3], 0.95)
	result(field[4] == "ENOMEM", "limited.end", field[4])
	at_most("limited.above", field[5], 0)
	at_most("limited.lost", field[6], 0)

	# pages held when the signal came, nanoseconds, pages held afterwards
	split(signal, field, ",")
	at_least("signal.held", field[2], 1)
	at_most("signal.nanoseconds", field[3], 10000000)
	at_most("signal.left", field[4], 0)

	print "1.." n
	if (known_misses) print "# " known_misses " targets are missed, by no more than was known"
	print passed + 0 " passed, " failed + 0 " failed"
	exit !(passed && !failed)
}
