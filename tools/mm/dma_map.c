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
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/dma_map.h>

#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))
#define COLUMNS		64		/* of the picture */
#define MAX_RANGES	128		/* of System RAM */
#define PAGEMAP		"/proc/self/pagemap"
#define PM_PFN		((1ULL << 55) - 1)	/* in an entry of pagemap */

struct range {
	uint64_t start;
	uint64_t end;			/* the last byte */
};

static size_t page_size;
static size_t size = 64 * 1024;
static size_t dump_size;
static bool given[CHAR_MAX + 1];	/* the options, by letter */

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
	"  -h, --help        print this help\n"
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
	[EINVAL] = "length 0, or a flag that this kernel does not know",
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
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int c;

	while ((c = getopt_long(argc, argv, "s:clpx:mvfkh", longopts, NULL)) != -1) {
		given[c] = true;
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
	long addr;

	if (given['c'])
		flags |= MAP_CONTIGUOUS;
	if (given['l'])
		flags |= MAP_LIMITED;
	addr = syscall(__NR_dma_map, NULL, size, PROT_READ | PROT_WRITE, flags,
		       table);
	if (addr != -1)
		return (unsigned char *)addr;
	if ((size_t)errno < ARRAY_SIZE(likely_cause) && likely_cause[errno])
		why = likely_cause[errno];
	fprintf(stderr, "dma_map: %zu bytes: %s (%s)\n", size, strerror(errno),
		why);
	exit(EXIT_FAILURE);
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
	room = given['c'] ? 1 : DMA_TABLE_MAX(size);
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
	printf("%zu KiB at %p in %zu chunk%s\n\n", len / 1024, (void *)buf, n,
	       n == 1 ? "" : "s");
	print_table(table, n);
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
