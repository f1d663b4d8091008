# SPDX-License-Identifier: GPL-2.0
#
# Tables and a chart of what bench.csv says; unit is what it counts.

BEGIN { FS = ","; ours = "dma_map" }

function size(bytes) {
	if (bytes >= 1073741824) return bytes / 1073741824 " GiB"
	if (bytes >= 1048576) return bytes / 1048576 " MiB"
	return bytes / 1024 " KiB"
}

NR == 1 { next }
{
	if (!($2 in memory_seen)) { memory_seen[$2]; memories[++nr_memories] = $2 }
	if (!($1 in way_seen)) { way_seen[$1]; ways[++nr_ways] = $1 }
	if (!($3 in size_seen)) { size_seen[$3]; sizes[++nr_sizes] = $3 + 0 }
	setup[$1, $2, $3] = $4
	teardown[$1, $2, $3] = $5
	entries[$1, $2, $3] = $6
	tables[$1, $2, $3] = $7
	faults[$1, $2, $3] = $8
}

# Of floor-call only one size is measured: every call costs that.
function sort_sizes(	i, j, t) {
	for (i = 2; i <= nr_sizes; i++)
		for (j = i; j > 1 && sizes[j - 1] > sizes[j]; j--) {
			t = sizes[j]; sizes[j] = sizes[j - 1]; sizes[j - 1] = t
		}
}

function per_page(sum, bytes) { return sum * 4096 / bytes }

function own_table(memory,	i, key) {
	printf "\n%s in %s memory, %s\n\n", ours, memory, unit
	printf "%9s %12s %9s %12s %9s %8s %7s %7s\n", "", "set-up", "a page", \
		"munmap", "a page", "entries", "tables", "faults"
	for (i = 1; i <= nr_sizes; i++) {
		key = ours SUBSEP memory SUBSEP sizes[i]
		if (!(key in setup)) continue
		printf "%9s %12d %9.1f %12d %9.1f %8d %7d %7d\n", size(sizes[i]), \
			setup[key], per_page(setup[key], sizes[i]), teardown[key], \
			per_page(teardown[key], sizes[i]), entries[key], \
			tables[key], faults[key]
	}
}

function ratios(memory, what, cost,	i, w, key, base) {
	printf "\n%s in %s memory: how many times that of %s\n\n%9s", what, memory, \
		ours, ""
	for (w = 1; w <= nr_ways; w++)
		if (ways[w] != ours) printf " %12s", ways[w]
	print ""
	for (i = 1; i <= nr_sizes; i++) {
		base = ours SUBSEP memory SUBSEP sizes[i]
		if (!(base in cost)) continue
		printf "%9s", size(sizes[i])
		for (w = 1; w <= nr_ways; w++) {
			if (ways[w] == ours) continue
			key = ways[w] SUBSEP memory SUBSEP sizes[i]
			if (key in cost) printf " %12.2f", cost[key] / cost[base]
			else printf " %12s", "-"
		}
		print ""
	}
}

function bar(n,	s) { while (n-- > 0) s = s "#"; return s }

function chart(memory, bytes,	w, key, most) {
	for (w = 1; w <= nr_ways; w++) {
		key = ways[w] SUBSEP memory SUBSEP bytes
		if (key in setup && setup[key] > most) most = setup[key]
	}
	printf "\nset-up of %s in %s memory, %s a page\n\n", size(bytes), memory, unit
	for (w = 1; w <= nr_ways; w++) {
		key = ways[w] SUBSEP memory SUBSEP bytes
		if (key in setup)
			printf "%12s %7.0f %s\n", ways[w], per_page(setup[key], bytes), \
				bar(int(setup[key] * 50 / most + 0.5))
	}
}

END {
	sort_sizes()
	for (m = 1; m <= nr_memories; m++) {
		own_table(memories[m])
		ratios(memories[m], "set-up", setup)
		ratios(memories[m], "giving back", teardown)
	}
	m = memories[nr_memories]
	chart(m, 65536)
	chart(m, 16777216)
}
