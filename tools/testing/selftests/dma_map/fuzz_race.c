// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads that race on the same mappings.  Nobody can tell what is mapped in
 * the arena, but: no access there ends in anything but SIGSEGV, no page of a
 * buffer is in two places, and none has contents that nobody wrote there.  And
 * next to that each thread has buffers of its own, that have to stay intact.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fuzz.h"

#define OWN_BUFFERS		4U
#define OWN_PAGES		16U
#define OWN_SIZE		(OWN_PAGES * PAGE_SIZE)
#define CHURN_SIZE		(16 * PAGE_SIZE)

/* What is written to the arena, and what to memory that is no buffer */
#define ARENA_WORD		0xa5e7a5e7
#define FOREIGN_BYTE		0x6b

/* How many operations of each thread there are to one look at everything */
#define CHECK_EVERY		64U

/* Contents are those of one large buffer, of which this is the part at @bias */
struct own {
	char		*addr;
	size_t		bias;
	size_t		length;
	dma_entry_t	table[OWN_PAGES];
};

struct racer {
	pthread_t	thread;
	unsigned int	nr;
	__u64		rng;
	int		pipe[2];
	struct own	own[OWN_BUFFERS];
	dma_entry_t	table[LARGEST_PAGES];
};

static pthread_barrier_t barrier;
static unsigned int nr_racers;
static struct racer *racers;
static size_t biases;

/* All that is left to do for a process in which something was wrong */
static void must(bool right, const char *what)
{
	if (right)
		return;
	fail("%s", what);
	_exit(1);
}

static void walk_arena(void *arg)
{
	const struct walk *walk = arg;

	for (unsigned int page = walk->page; page < walk->to; page++) {
		__u32 first = first_word(at(page)), last = last_word(at(page));

		must((!first || first == ARENA_WORD) &&
		     (!last || last == ARENA_WORD),
		     "the arena has what nobody wrote there");
	}
}

/* Up to the first page that cannot be read; returns whether there is one */
static bool look_at_arena(unsigned int page, unsigned int nr)
{
	struct walk walk = { page, page + nr };
	int sig = guarded(walk_arena, &walk);

	must(!sig || sig == SIGSEGV, "SIGBUS in the arena");
	return sig;
}

static void write_to_arena(const struct op *op)
{
	int sig = 0;

	for (unsigned int i = 0; i < op->nr && !sig; i++)
		sig = poke(at(op->page + i), ARENA_WORD, ARENA_WORD);
	must(!sig || sig == SIGSEGV, "SIGBUS in the arena");
}

/* Memory that others may have had before, or still have */
static void churn(void)
{
	static const char foreign[] = { [0 ... PAGE_SIZE - 1] = FOREIGN_BYTE };
	char *addr = mmap(NULL, CHURN_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	must(addr != MAP_FAILED, "no memory");
	must(!dirty_words(addr, CHURN_SIZE), "memory that is not zeroed");
	memset(addr, FOREIGN_BYTE, CHURN_SIZE);
	for (size_t i = 0; i < CHURN_SIZE; i += PAGE_SIZE)
		must(!memcmp(addr + i, foreign, PAGE_SIZE),
		     "memory that a buffer has, too");
	munmap(addr, CHURN_SIZE);
}

/*
 * Buffers of one thread
 */

static void look_at_own(const struct own *own)
{
	if (!own->addr)
		return;
	must(!damaged_pages(own->addr - own->bias, own->bias,
			    own->bias + own->length), "a page is damaged");
	must(!untrue_pages(own->addr, own->table, 0, own->length),
	     "a page has moved");
}

static void drop_own(struct own *own)
{
	look_at_own(own);
	if (own->addr)
		munmap(own->addr, own->length);
	own->addr = NULL;
}

static void renew_own(struct own *own, struct op op)
{
	drop_own(own);
	op.nr = 1 + op.nr % OWN_PAGES;
	op.prot = RW | ANYWHERE;
	op.arg &= ~(MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN);
	if (!(op.arg & MAP_TYPE))
		op.arg |= MAP_SHARED;

	own->length = op.nr * PAGE_SIZE;
	own->bias = __atomic_fetch_add(&biases, OWN_SIZE, __ATOMIC_RELAXED);
	own->addr = call_dma_map(&op, own->table);
	if (own->addr == MAP_FAILED) {
		own->addr = NULL;
		must(errno == ENOMEM && op.arg & SCARCE, "no memory");
		return;
	}
	must(check_table(&op, own->table) && check_zeroed(&op, own->addr), "");
	must(!untrue_pages(own->addr, own->table, 0, own->length),
	     "the table is not true");
	fill(own->addr - own->bias, own->bias, own->bias + own->length);
}

/* What is in a pipe stays what it was when it is mapped no more */
static void pin_own(struct racer *self, struct own *own)
{
	struct iovec iov = { .iov_base = own->addr, .iov_len = own->length };
	char page[PAGE_SIZE];

	if (!own->addr)
		return;
	must(vmsplice(self->pipe[1], &iov, 1, 0) == (ssize_t)own->length,
	     "vmsplice");
	drop_own(own);
	churn();
	for (size_t i = own->bias; i < own->bias + own->length; i += PAGE_SIZE) {
		must(read(self->pipe[0], page, PAGE_SIZE) == PAGE_SIZE, "pipe");
		must(!damaged_pages(page - i, i, i + PAGE_SIZE),
		     "a pinned page is damaged");
	}
}

static void fork_own(const struct racer *self, const struct op *op)
{
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (!pid) {
		/* Of MAP_PRIVATE, there is nothing here */
		for (unsigned int i = 0; i < OWN_BUFFERS; i++)
			if (self->own[i].addr && pagemap(self->own[i].addr))
				look_at_own(&self->own[i]);
		look_at_arena(op->page, op->nr);
		_exit(0);
	}
	must(!wait_for(pid), "a child failed");
}

/*
 * The arena
 */

static void map_in_arena(struct racer *self, const struct op *op)
{
	size_t length = op->nr * PAGE_SIZE;
	char *addr;

	if (op->prot & LOW_LIMIT)
		return;
	addr = call_dma_map(op, self->table);
	if (addr == MAP_FAILED)
		return;
	must(check_table(op, self->table), "");
	if (addr == at(op->page))
		return;
	/* Elsewhere nobody else knows of it */
	must(check_zeroed(op, addr), "");
	must(!untrue_pages(addr, self->table, 0, length),
	     "the table is not true");
	must(mremap(addr, length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
		    at(op->page)) == at(op->page), "mremap of all");
}

static void race_op(struct racer *self, const struct op *op)
{
	struct own *own = &self->own[op->page % OWN_BUFFERS];

	switch (op->kind) {
	case DMA_MAP:
		map_in_arena(self, op);
		break;
	case READ:
		look_at_arena(op->page, op->nr);
		break;
	case WRITE:
		write_to_arena(op);
		break;
	case MINCORE:
	case UNPIN:
		renew_own(own, *op);
		break;
	case PIN:
		pin_own(self, own);
		break;
	case FORK:
		fork_own(self, op);
		break;
	case END:
		churn();
		break;
	default:
		apply(op);
	}
}

static void look_at_mapped(void)
{
	const unsigned long base = (unsigned long)ARENA;
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long start, end;
	char line[256], r, w;

	must(maps, "no maps");
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %c%c", &start, &end, &r, &w) != 4 ||
		    start - base >= ARENA_PAGES * PAGE_SIZE ||
		    (r == '-' && w == '-'))
			continue;
		if (end > base + ARENA_PAGES * PAGE_SIZE)
			end = base + ARENA_PAGES * PAGE_SIZE;
		must(!look_at_arena((start - base) / PAGE_SIZE,
				    (end - start) / PAGE_SIZE),
		     "SIGSEGV in what is mapped");
	}
	fclose(maps);
}

/* With everybody waiting */
static void look_at_everything(void)
{
	static __u64 entry[ARENA_PAGES];
	static unsigned char seen[1 << 20];	/* pages: 32 GiB */
	off_t offset = (unsigned long)ARENA / PAGE_SIZE * sizeof(*entry);
	int fd = open("/proc/self/pagemap", O_RDONLY);
	unsigned int i;

	look_at_mapped();
	must(pread(fd, entry, sizeof(entry), offset) == sizeof(entry),
	     "pagemap");
	close(fd);

	memset(seen, 0, sizeof(seen));
	for (i = 0; i < ARENA_PAGES + nr_racers * OWN_BUFFERS * OWN_PAGES; i++) {
		unsigned int j = i - ARENA_PAGES, page = j % OWN_PAGES;
		const struct own *own;
		__u64 pfn = 0;

		if (i < ARENA_PAGES) {
			if (entry[i] & PAGEMAP_FILE && entry[i] & PAGEMAP_PRESENT)
				pfn = entry[i] & PAGEMAP_PFN;
		} else {
			own = racers[j / OWN_PAGES / OWN_BUFFERS].own +
			      j / OWN_PAGES % OWN_BUFFERS;
			if (own->addr && page * PAGE_SIZE < own->length)
				pfn = told(own->table, page * PAGE_SIZE) /
				      PAGE_SIZE;
		}
		if (!pfn || pfn / 8 >= sizeof(seen))
			continue;
		must(!(seen[pfn / 8] & 1 << pfn % 8), "a page in two places");
		seen[pfn / 8] |= 1 << pfn % 8;
	}
}

static void *run_racer(void *arg)
{
	struct racer *self = arg;

	for (unsigned int i = 1; i <= self->nr; i++) {
		struct op op = random_op(&self->rng, 1);

		race_op(self, &op);
		if (i % CHECK_EVERY && i < self->nr)
			continue;
		for (unsigned int j = 0; j < OWN_BUFFERS; j++)
			look_at_own(&self->own[j]);
		if (pthread_barrier_wait(&barrier) ==
		    PTHREAD_BARRIER_SERIAL_THREAD)
			look_at_everything();
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

/* In a process of its own; @nr is the sum of what the threads do */
void race(__u64 seed, unsigned int nr, unsigned int threads)
{
	nr_racers = threads;
	racers = calloc(threads, sizeof(*racers));
	must(racers && !pthread_barrier_init(&barrier, NULL, threads),
	     "no memory");
	pagemap(racers);	/* opens it before anybody races for that */
	for (unsigned int i = 0; i < threads; i++) {
		racers[i].nr = nr / threads;
		racers[i].rng = seed << 16 | (i + 1);
		must(!pipe(racers[i].pipe), "pipe");
	}
	for (unsigned int i = 0; i < threads; i++)
		must(!pthread_create(&racers[i].thread, NULL, run_racer,
				     &racers[i]), "no thread");
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(racers[i].thread, NULL);
}
