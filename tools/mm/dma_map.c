// SPDX-License-Identifier: GPL-2.0-only
/*
 * dma_map - get memory with dma_map(2) and show where it lies
 *
 * Reads as an example from the bottom up: main() makes the call, print_table()
 * shows what the kernel found, verify() compares it with /proc/self/pagemap.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/dma_map.h>
#include <linux/kernel-page-flags.h>

#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))
#define COLUMNS		64		/* of the picture */
#define MAX_RANGES	128		/* of System RAM */
#define PAGEMAP		"/proc/self/pagemap"
#define PM_PFN		((1ULL << 55) - 1)	/* in an entry of pagemap */
#define KPAGEFLAGS	"/proc/kpageflags"

struct range {
	uint64_t start;
	uint64_t end;			/* the last byte */
};

static size_t page_size;
static size_t size = 64 * 1024;
static size_t dump_size;
static bool given[CHAR_MAX + 1];	/* the options, by letter */
static struct dma_constraints constraints = {
	.size = sizeof(constraints),
	.node = -1,
};

static const char usage[] =
	"Usage: dma_map [OPTION]...\n"
	"Get memory with dma_map(2), show its physical addresses, give it back.\n"
	"\n"
	"  -s, --size SIZE   bytes to get, suffix K, M or G (default 64K)\n"
	"  -c, --contiguous  one chunk (MAP_CONTIGUOUS)\n"
	"  -l, --limited     below 16 MiB (MAP_LIMITED)\n"
	"  -p, --private     not for fork()'s child (MAP_PRIVATE for MAP_SHARED)\n"
	"  -x, --hex N       dump the first N bytes\n"
	"  -m, --map         draw where in physical memory the chunks lie\n"
	"  -v, --verify      check each page against /proc/self/pagemap\n"
	"  -f, --free        count free memory before, during and after\n"
	"  -k, --keep        keep the memory until Enter or a signal\n"
	"  -o, --output HOW  the table alone, as text, csv or json\n"
	"  -e, --explain     if there is no such memory, tell what is in the way\n"
	"  -h, --help        print this help\n"
	"\n"
	"Constraints (MAP_CONSTRAINED), sizes in bytes or with a suffix:\n"
	"  -B, --bits N      addresses of N bits only, or\n"
	"  -L, --addr-limit ADDRESS  none above this one\n"
	"  -A, --alignment SIZE      each chunk begins at a multiple of this\n"
	"  -b, --boundary SIZE       no chunk crosses a multiple of this\n"
	"  -i, --min-len SIZE        no chunk but the last is shorter\n"
	"  -a, --max-len SIZE        no chunk is longer\n"
	"  -n, --max-entries N       no more chunks than this\n"
	"  -N, --node N              NUMA node\n"
	"  -R, --no-reclaim          only what is free\n"
	"\n"
	"Exit status: 0, or 1 when something failed or did not match.\n";

static noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "dma_map: %s: %s\n", what, why);
	exit(EXIT_FAILURE);
}

static const char * const likely_cause[] = {
	[EPERM] = "needs CAP_SYS_RAWIO in the initial user namespace",
	[EAGAIN] = "RLIMIT_MEMLOCK would be passed, see ulimit -l",
	[ENOMEM] = "no such memory now, or a limit on memory was met",
	[EINVAL] = "length 0, a contradiction, or a flag that this kernel does not know",
	[ENOSPC] = "more chunks than --max-entries allows",
	[EOPNOTSUPP] = "encrypted memory, no physical address serves a device",
	[EACCES] = "refused by a security module",
};

static size_t parse_size(const char *arg)
{
	unsigned long long size;
	const char *suffixes = "KMG", *suffix;
	int shift = 0;
	char *end;

	errno = 0;
	size = strtoull(arg, &end, 0);
	if (errno || end == arg || !isdigit((unsigned char)*arg))
		die(arg, "not a size");
	if (*end) {
		suffix = strchr(suffixes, toupper((unsigned char)*end));
		if (!suffix || end[1])
			die(arg, "not a size");
		shift = 10 * (suffix - suffixes + 1);
	}
	if (size > SIZE_MAX >> shift)
		die(arg, "too large for this program");
	return size << shift;
}

/* The whole of the table is known by its end: where the lengths reach @len. */
static size_t count_entries(const dma_entry_t *table, size_t room, size_t len)
{
	uint64_t sum = 0;
	size_t n;

	for (n = 0; n < room && sum < len; n++)
		sum += table[n].len;
	if (sum != len)
		die("table", "its lengths do not add up to that of the buffer");
	return n;
}

static uint64_t last_byte(const dma_entry_t *entry)
{
	return (uint64_t)entry->physaddr + entry->len - 1;
}

static void print_csv(const dma_entry_t *table, size_t n)
{
	size_t i;

	printf("physaddr,len\n");
	for (i = 0; i < n; i++)
		printf("0x%llx,%llu\n", (unsigned long long)table[i].physaddr,
		       (unsigned long long)table[i].len);
}

/* Addresses as strings: a number in JSON has 53 bits for many who read it */
static void print_json(const dma_entry_t *table, size_t n)
{
	size_t i;

	printf("[\n");
	for (i = 0; i < n; i++)
		printf("  { \"physaddr\": \"0x%llx\", \"len\": %llu }%s\n",
		       (unsigned long long)table[i].physaddr,
		       (unsigned long long)table[i].len, i + 1 < n ? "," : "");
	printf("]\n");
}

static void print_table(const dma_entry_t *table, size_t n)
{
	size_t i;

	printf("%6s  %-18s  %-18s  %12s\n",
	       "entry", "physical address", "last byte", "length");
	for (i = 0; i < n; i++)
		printf("%6zu  0x%016llx  0x%016llx  %8llu KiB\n", i,
		       (unsigned long long)table[i].physaddr,
		       (unsigned long long)last_byte(&table[i]),
		       (unsigned long long)table[i].len / 1024);
}

static void hex_dump(const unsigned char *buf, size_t len)
{
	size_t i;

	printf("\nfirst %zu bytes", len);
	for (i = 0; i < len; i++) {
		if (i % 16 == 0)
			printf("\n%8zx ", i);
		printf(" %02x", buf[i]);
	}
	printf("\n");
}

static uint64_t address_of(int fd, const unsigned char *page)
{
	off_t at = (uintptr_t)page / page_size * sizeof(uint64_t);
	uint64_t entry;

	if (pread(fd, &entry, sizeof(entry), at) != sizeof(entry))
		die(PAGEMAP, "cannot read it");
	if (!(entry & PM_PFN))
		die(PAGEMAP, "tells no address, needs CAP_SYS_ADMIN");
	return (entry & PM_PFN) * page_size;
}

static bool verify(const dma_entry_t *table, size_t n, const unsigned char *buf)
{
	int fd = open(PAGEMAP, O_RDONLY);
	size_t pages = 0, wrong = 0, i, offset;

	if (fd < 0)
		die(PAGEMAP, strerror(errno));
	for (i = 0; i < n; i++) {
		for (offset = 0; offset < table[i].len; offset += page_size) {
			if (address_of(fd, buf) != table[i].physaddr + offset)
				wrong++;
			buf += page_size;
			pages++;
		}
	}
	close(fd);
	printf("\npagemap: %zu of %zu pages lie where the table says\n",
	       pages - wrong, pages);
	return !wrong;
}

/* Without CAP_SYS_ADMIN /proc/iomem shows zeros, and there are no ranges. */
static size_t read_system_ram(struct range *ram)
{
	unsigned long long start, end;
	FILE *f = fopen("/proc/iomem", "r");
	char line[256];
	size_t n = 0;

	while (f && n < MAX_RANGES && fgets(line, sizeof(line), f)) {
		if (!strstr(line, ": System RAM") ||
		    sscanf(line, "%llx-%llx", &start, &end) != 2 || !end)
			continue;
		ram[n].start = start;
		ram[n++].end = end;
	}
	if (f)
		fclose(f);
	return n;
}

static char chunk_symbol(size_t i)
{
	return i < 36 ? "0123456789abcdefghijklmnopqrstuvwxyz"[i] : '#';
}

/* One row of the picture: COLUMNS cells of @cell bytes each, from @start on. */
static void draw_row(const dma_entry_t *table, size_t n,
		     const struct range *ram, size_t ranges,
		     uint64_t start, uint64_t cell)
{
	char row[COLUMNS + 1] = "";
	size_t c, i;

	for (c = 0; c < COLUMNS; c++) {
		uint64_t lo = start + c * cell, hi = lo + cell - 1;

		row[c] = ranges ? ' ' : '.';
		for (i = 0; i < ranges; i++)
			if (ram[i].start <= hi && ram[i].end >= lo)
				row[c] = '.';
		for (i = n; i-- > 0;)
			if (table[i].physaddr <= hi && last_byte(&table[i]) >= lo)
				row[c] = chunk_symbol(i);
	}
	printf("%llu KiB a column:\n0x%09llx |%s|\n",
	       (unsigned long long)cell / 1024, (unsigned long long)start, row);
}

/* The smallest power of two, a page or more, of which a row holds @bytes. */
static uint64_t cell_for(uint64_t bytes)
{
	uint64_t cell = page_size;

	while (cell * COLUMNS < bytes)
		cell *= 2;
	return cell;
}

static void draw_map(const dma_entry_t *table, size_t n)
{
	struct range ram[MAX_RANGES], span = { UINT64_MAX, 0 };
	size_t ranges = read_system_ram(ram), i;
	uint64_t middle, half, cell, all;

	for (i = 0; i < n; i++) {
		if (table[i].physaddr < span.start)
			span.start = table[i].physaddr;
		if (last_byte(&table[i]) > span.end)
			span.end = last_byte(&table[i]);
	}
	printf("\nphysical memory: chunks by number (# from 36 on), '.' %s\n",
	       ranges ? "other RAM, ' ' no RAM" : "anything else");
	all = cell_for(ranges ? ram[ranges - 1].end + 1 : span.end + 1);
	draw_row(table, n, ram, ranges, 0, all);

	/* Closer: the chunks in the middle, as much again around them. */
	cell = cell_for(2 * (span.end + 1 - span.start));
	middle = span.start + (span.end - span.start) / 2;
	half = cell * COLUMNS / 2;
	if (cell < all)
		draw_row(table, n, ram, ranges,
			 middle > half ? (middle - half) / cell * cell : 0, cell);
}

/*
 * Free pages are those of the free lists and those that each CPU keeps at hand.
 * The kernel counts lazily: writing to stat_refresh brings the count up to date.
 */
static long free_pages(void)
{
	int fd = open("/proc/sys/vm/stat_refresh", O_WRONLY);
	long sum = 0, n;
	char line[256];
	FILE *f;

	if (fd < 0 || write(fd, "1", 1) != 1)
		die("/proc/sys/vm/stat_refresh", strerror(errno));
	close(fd);
	f = fopen("/proc/zoneinfo", "r");
	if (!f)
		die("/proc/zoneinfo", strerror(errno));
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, " nr_free_pages %ld", &n) == 1 ||
		    sscanf(line, " count: %ld", &n) == 1)
			sum += n;
	fclose(f);
	return sum;
}

static void print_free(long before, long during, long after)
{
	printf("\nfree memory in pages (others take and free some, too)\n"
	       "  before        %8ld\n"
	       "  with it       %8ld  (%+ld)\n"
	       "  after munmap  %8ld  (%+ld)\n",
	       before, during, during - before, after, after - before);
}

static void wake_up(int sig)
{
	(void)sig;
}

static void keep(void)
{
	struct sigaction sa = { .sa_handler = wake_up };
	char c;

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	printf("\nprocess %d keeps it until Enter or a signal\n", getpid());
	fflush(stdout);
	if (read(STDIN_FILENO, &c, 1) == 0)
		pause();		/* nobody there to press Enter */
}

/*
 * Why there is no such memory: how much of what is free meets each constraint by
 * itself, and all of them
 */

static unsigned char *free_pages_map(size_t *nr)
{
	static uint64_t flags[4096];
	int fd = open(KPAGEFLAGS, O_RDONLY);
	unsigned char *map = NULL;
	ssize_t got, i;

	if (fd < 0)
		die(KPAGEFLAGS, strerror(errno));
	*nr = 0;
	while ((got = read(fd, flags, sizeof(flags)) / 8) > 0) {
		map = realloc(map, *nr + got);
		if (!map)
			die(KPAGEFLAGS, strerror(errno));
		for (i = 0; i < got; i++)
			map[(*nr)++] = flags[i] >> KPF_BUDDY & 1;
	}
	close(fd);
	return map;
}

static uint64_t multiple_from(uint64_t address, uint64_t unit)
{
	return (address + unit - 1) / unit * unit;
}

/* Of free memory from @start to @end what could be chunks, in bytes */
static uint64_t usable(const struct dma_constraints *c, uint64_t start,
		       uint64_t end)
{
	uint64_t alignment = c->alignment > page_size ? c->alignment : page_size;
	uint64_t sum = 0, chunk;

	if (c->addr_limit && end > c->addr_limit)
		end = (c->addr_limit + 1) / page_size * page_size;
	start = multiple_from(start, alignment);
	while (start < end) {
		chunk = end - start;
		if (c->boundary && chunk > c->boundary - start % c->boundary)
			chunk = c->boundary - start % c->boundary;
		if (c->max_len && chunk > c->max_len)
			chunk = c->max_len / page_size * page_size;
		if (chunk >= c->min_len)
			sum += chunk;
		start = multiple_from(start + chunk, alignment);
	}
	return sum;
}

static void explain_one(const char *name, const struct dma_constraints *c,
			const unsigned char *map, size_t nr)
{
	uint64_t sum = 0, longest = 0, run, enough;
	size_t page, next;

	for (page = 0; page < nr; page = next + 1) {
		for (next = page; next < nr && map[next]; next++)
			;
		run = usable(c, (uint64_t)page * page_size,
			     (uint64_t)next * page_size);
		sum += run;
		if (run > longest)
			longest = run;
	}
	enough = given['c'] ? longest : sum;
	fprintf(stderr, "  %-14s %10llu KiB, together at most %8llu KiB%s\n",
		name, (unsigned long long)sum / 1024,
		(unsigned long long)longest / 1024,
		enough < size ? "  <- too little" : "");
}

static const struct {
	const char *name;
	size_t offset;
} explained[] = {
	{ "addr_limit", offsetof(struct dma_constraints, addr_limit) },
	{ "alignment", offsetof(struct dma_constraints, alignment) },
	{ "boundary", offsetof(struct dma_constraints, boundary) },
	{ "min_len", offsetof(struct dma_constraints, min_len) },
	{ "max_len", offsetof(struct dma_constraints, max_len) },
};

static void explain(void)
{
	struct dma_constraints any = { 0 }, one;
	const __u64 *value;
	size_t nr;
	unsigned char *map = free_pages_map(&nr);

	if (given['l'] && (!constraints.addr_limit ||
			   constraints.addr_limit > 0xffffff))
		constraints.addr_limit = 0xffffff;
	fprintf(stderr, "free memory, what of it meets each constraint:\n");
	explain_one("none", &any, map, nr);
	for (size_t i = 0; i < ARRAY_SIZE(explained); i++) {
		one = any;
		value = (__u64 *)((char *)&constraints + explained[i].offset);
		if (!*value)
			continue;
		memcpy((char *)&one + explained[i].offset, value, sizeof(*value));
		explain_one(explained[i].name, &one, map, nr);
	}
	explain_one("all of them", &constraints, map, nr);
	if (constraints.node >= 0)
		fprintf(stderr, "  (on all nodes, not on node %d alone)\n",
			constraints.node);
	free(map);
}

static const char *output;		/* NULL: all that was asked for */

static void parse_constraint(int option, const char *arg)
{
	switch (option) {
	case 'B':
		if (parse_size(arg) < 12 || parse_size(arg) > 63)
			die(arg, "from 12 to 63 bits");
		constraints.addr_limit = (1ULL << parse_size(arg)) - 1;
		break;
	case 'L':
		constraints.addr_limit = parse_size(arg);
		break;
	case 'A':
		constraints.alignment = parse_size(arg);
		break;
	case 'b':
		constraints.boundary = parse_size(arg);
		break;
	case 'i':
		constraints.min_len = parse_size(arg);
		break;
	case 'a':
		constraints.max_len = parse_size(arg);
		break;
	case 'n':
		constraints.max_entries = parse_size(arg);
		break;
	case 'N':
		constraints.node = parse_size(arg);
		break;
	case 'R':
		constraints.flags = DMA_NO_RECLAIM;
		break;
	default:
		return;
	}
	given['C'] = true;
}

static void parse_options(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "size", required_argument, NULL, 's' },
		{ "contiguous", no_argument, NULL, 'c' },
		{ "limited", no_argument, NULL, 'l' },
		{ "private", no_argument, NULL, 'p' },
		{ "hex", required_argument, NULL, 'x' },
		{ "map", no_argument, NULL, 'm' },
		{ "verify", no_argument, NULL, 'v' },
		{ "free", no_argument, NULL, 'f' },
		{ "keep", no_argument, NULL, 'k' },
		{ "output", required_argument, NULL, 'o' },
		{ "explain", no_argument, NULL, 'e' },
		{ "bits", required_argument, NULL, 'B' },
		{ "addr-limit", required_argument, NULL, 'L' },
		{ "alignment", required_argument, NULL, 'A' },
		{ "boundary", required_argument, NULL, 'b' },
		{ "min-len", required_argument, NULL, 'i' },
		{ "max-len", required_argument, NULL, 'a' },
		{ "max-entries", required_argument, NULL, 'n' },
		{ "node", required_argument, NULL, 'N' },
		{ "no-reclaim", no_argument, NULL, 'R' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int c;

	while ((c = getopt_long(argc, argv, "s:clpx:mvfko:eB:L:A:b:i:a:n:N:Rh",
				longopts, NULL)) != -1) {
		given[c] = true;
		parse_constraint(c, optarg);
		if (c == 'o')
			output = optarg;
		if (c == 's')
			size = parse_size(optarg);
		if (c == 'x')
			dump_size = parse_size(optarg);
	}
	if (given['h'])
		fputs(usage, stdout);
	else if (given['?'] || optind < argc)
		fputs("dma_map: --help tells the options\n", stderr);
	else
		return;
	exit(given['h'] ? EXIT_SUCCESS : EXIT_FAILURE);
}

static unsigned char *get_buffer(dma_entry_t *table)
{
	int flags = given['p'] ? MAP_PRIVATE : MAP_SHARED;
	const char *why = "does this kernel have dma_map(2)?";
	int errno_of_call;
	long addr;

	if (given['c'])
		flags |= MAP_CONTIGUOUS;
	if (given['l'])
		flags |= MAP_LIMITED;
	if (given['C'])
		flags |= MAP_CONSTRAINED;
	addr = syscall(__NR_dma_map, NULL, size, PROT_READ | PROT_WRITE, flags,
		       table, &constraints);
	if (addr != -1)
		return (unsigned char *)addr;
	errno_of_call = errno;
	if ((size_t)errno_of_call < ARRAY_SIZE(likely_cause) &&
	    likely_cause[errno_of_call])
		why = likely_cause[errno_of_call];
	fprintf(stderr, "dma_map: %zu bytes: %s (%s)\n", size,
		strerror(errno_of_call), why);
	if (errno_of_call == ENOSPC)
		fprintf(stderr, "dma_map: %llu chunks would do\n",
			(unsigned long long)constraints.nr_entries);
	if (given['e'] && (errno_of_call == ENOMEM || errno_of_call == ENOSPC))
		explain();
	exit(EXIT_FAILURE);
}

static void print_as(const char *how, const dma_entry_t *table, size_t n)
{
	if (!strcmp(how, "csv"))
		print_csv(table, n);
	else if (!strcmp(how, "json"))
		print_json(table, n);
	else if (!strcmp(how, "text"))
		print_table(table, n);
	else
		die(how, "neither text nor csv nor json");
}

int main(int argc, char **argv)
{
	long before = 0, during = 0;
	dma_entry_t *table;
	unsigned char *buf;
	size_t room, len, n;
	bool good = true;

	page_size = sysconf(_SC_PAGESIZE);
	parse_options(argc, argv);

	/* One chunk needs one entry, else there may be one for each page. */
	room = given['c'] && !given['C'] ? 1 : DMA_TABLE_MAX(size);
	table = calloc(room, sizeof(*table));
	if (!table && room)
		die("table", strerror(errno));
	if (given['f']) {
		free_pages();	/* once for nothing, as it takes some itself */
		before = free_pages();
	}
	buf = get_buffer(table);
	if (given['f'])
		during = free_pages();

	len = (size + page_size - 1) / page_size * page_size;
	n = count_entries(table, room, len);
	if (output) {
		print_as(output, table, n);
	} else {
		printf("%zu KiB at %p in %zu chunk%s\n\n", len / 1024,
		       (void *)buf, n, n == 1 ? "" : "s");
		print_table(table, n);
	}
	if (given['m'])
		draw_map(table, n);
	if (given['x'])
		hex_dump(buf, dump_size < len ? dump_size : len);
	if (given['v'])
		good = verify(table, n, buf);
	if (given['k'])
		keep();
	if (munmap(buf, len))
		die("munmap", strerror(errno));
	if (given['f'])
		print_free(before, during, free_pages());
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
