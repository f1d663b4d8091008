// SPDX-License-Identifier: GPL-2.0-only
/*
 * The operations of the fuzzer: made up, written down, read, and done.  They
 * name pages of the arena, the same range of addresses in each process, so that
 * whatever is left out of a sequence, the rest still means the same.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "constraints.h"
#include "fuzz.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

/* In about ten thousandths: processes and compaction take long */
static const struct {
	const char	*name;
	unsigned int	weight;
} kinds[] = {
	[DMA_MAP]	= { "dma_map", 1600 },
	[MUNMAP]	= { "munmap", 800 },
	[COVER]		= { "cover", 400 },
	[MOVE]		= { "move", 700 },
	[SHRINK]	= { "shrink", 400 },
	[GROW]		= { "grow", 200 },
	[MPROTECT]	= { "mprotect", 800 },
	[MADVISE]	= { "madvise", 1400 },
	[MLOCK]		= { "mlock", 200 },
	[MUNLOCK]	= { "munlock", 200 },
	[MINCORE]	= { "mincore", 100 },
	[READ]		= { "read", 800 },
	[WRITE]		= { "write", 1400 },
	[PIN]		= { "pin", 400 },
	[UNPIN]		= { "unpin", 300 },
	[FORK]		= { "fork", 50 },
	[END]		= { "end", 40 },
	[COMPACT]	= { "compact", 1 },
	[CHECK]		= { "check", 0 },
};

/*
 * Operations
 */

__u32 pick(__u64 *rng, __u32 below)
{
	__u64 z = *rng += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return (z ^ z >> 31) % below;
}

static int one_of(__u64 *rng, const int *from, size_t nr)
{
	return from[pick(rng, nr)];
}

static void random_dma_map(__u64 *rng, struct op *op)
{
	static const int types[] = {
		MAP_SHARED, MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE,
	};
	static const int implied[] = {
		0, 0, 0, 0, MAP_ANONYMOUS, MAP_LOCKED, MAP_POPULATE,
		MAP_NORESERVE, MAP_32BIT, MAP_ABOVE4G,
	};
	static const int places[] = {
		MAP_FIXED, MAP_FIXED, MAP_FIXED_NOREPLACE, 0, 0,
	};
	static const int prots[] = {
		RW, RW, RW, RW, RW, PROT_READ, PROT_WRITE, PROT_NONE,
	};

	op->arg = one_of(rng, types, ARRAY_SIZE(types));
	op->arg |= one_of(rng, implied, ARRAY_SIZE(implied));
	if (op->arg & MAP_ABOVE4G && !has_above4g())
		op->arg &= ~MAP_ABOVE4G;
	op->arg |= one_of(rng, places, ARRAY_SIZE(places));
	op->prot = one_of(rng, prots, ARRAY_SIZE(prots));
	if (!pick(rng, 6))
		op->arg |= MAP_CONTIGUOUS;
	if (!pick(rng, 12))
		op->arg |= MAP_LIMITED;
	if (!pick(rng, 4))
		op->arg |= MAP_CONSTRAINED;
	if (!pick(rng, 2))
		op->prot |= ANYWHERE;

	switch (pick(rng, 60)) {
	case 0:
		op->arg |= MAP_GROWSDOWN;
		break;
	case 1:
		op->arg &= ~MAP_TYPE;
		break;
	case 2:
		op->prot |= PROT_EXEC;
		break;
	case 3:
		op->prot |= LOW_LIMIT;
		break;
	case 4:
		op->prot |= NO_TABLE;
		break;
	case 5:
		op->nr = 0;
		break;
	}
}

/* Not MADV_HWPOISON and MADV_SOFT_OFFLINE, which use up memory */
static const int advice[] = {
	0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
	22, 23, 24, 25,
};

struct op random_op(__u64 *rng, unsigned int procs)
{
	/* What a buffer costs is to zero it: those of a PMD and more are rare */
	static const int sizes[] = { 1, 1, 1, 2, 2, 3, 4, 5, 8, 8, 16, 17 };
	static const int large[] = { 64, 128, 256, 512, 512, 513, LARGEST_PAGES };
	static const int alignments[] = { 1, 1, 16, 64 };
	static const int prots[] = {
		RW, RW, PROT_READ, PROT_WRITE, PROT_NONE, PROT_EXEC | PROT_READ,
	};
	struct op op = { };
	unsigned int sum = 0, align = PMD_SIZE / PAGE_SIZE, number;

	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++)
		sum += kinds[i].weight;
	for (number = pick(rng, sum); number >= kinds[op.kind].weight; op.kind++)
		number -= kinds[op.kind].weight;

	op.proc = pick(rng, procs);
	op.page = pick(rng, ARENA_PAGES);
	if (pick(rng, 80)) {
		op.nr = one_of(rng, sizes, ARRAY_SIZE(sizes));
		align = one_of(rng, alignments, ARRAY_SIZE(alignments));
	} else {
		op.nr = one_of(rng, large, ARRAY_SIZE(large));
	}
	op.page -= op.page % align;
	if (!pick(rng, 4))
		op.nr = 1 + pick(rng, op.nr);
	if (op.nr > ARENA_PAGES - op.page)
		op.nr = ARENA_PAGES - op.page;

	switch (op.kind) {
	case DMA_MAP:
		random_dma_map(rng, &op);
		break;
	case MOVE:
		op.arg = pick(rng, ARENA_PAGES - op.nr + 1);
		op.arg -= op.arg % align;
		break;
	case SHRINK:
		op.arg = 1 + pick(rng, op.nr);
		break;
	case GROW:
		op.arg = pick(rng, GROWS);
		break;
	case MPROTECT:
		op.prot = one_of(rng, prots, ARRAY_SIZE(prots));
		break;
	case MADVISE:
		op.arg = one_of(rng, advice, ARRAY_SIZE(advice));
		break;
	case PIN:
	case UNPIN:
		op.arg = pick(rng, PIPES);
		break;
	case FORK:
		op.arg = pick(rng, PROCS);
		break;
	case END:
		op.arg = pick(rng, WAYS);
		break;
	}
	return op;
}

void print_op(FILE *file, const char *prefix, const struct op *op)
{
	fprintf(file, "%s%s %u %u %u %#x %#x\n", prefix, kinds[op->kind].name,
		op->proc, op->page, op->nr, op->prot, op->arg);
}

bool parse_op(const char *line, struct op *op)
{
	unsigned int proc, page, nr, prot, arg, kind = 0;
	char name[16];

	if (sscanf(line, "%15s %u %u %u %x %x", name, &proc, &page, &nr, &prot,
		   &arg) != 6)
		return false;
	while (strcmp(name, kinds[kind].name))
		if (++kind == ARRAY_SIZE(kinds))
			return false;
	*op = (struct op){ kind, proc, page, nr, prot, arg };
	switch (kind) {
	case MOVE:
		if (arg + nr > ARENA_PAGES)
			return false;
		break;
	case SHRINK:
		if (!arg || arg > nr)
			return false;
		break;
	case PIN:
	case UNPIN:
	case FORK:
		if (arg >= PROCS)
			return false;
		break;
	}
	return proc < PROCS && page + nr <= ARENA_PAGES && nr <= LARGEST_PAGES;
}

/* Those of MAP_CONSTRAINED are as good as random, too; none contradicts another */
static struct dma_constraints constraints_of(const struct op *op)
{
	return CONSTRAINTS(.addr_limit = op->page & 1 ? 256 * MIB - 1 : 0,
			   .alignment = op->page & 2 ? 16 * KIB : 0,
			   .boundary = op->page & 4 ? 64 * KIB : 0,
			   .max_len = op->page & 8 ? 48 * KIB : 0,
			   .flags = op->page & 16 ? DMA_NO_RECLAIM : 0);
}

void *call_dma_map(const struct op *op, dma_entry_t *dma_table)
{
	const bool fixed = op->arg & (MAP_FIXED | MAP_FIXED_NOREPLACE);
	struct dma_constraints c = constraints_of(op);

	return (void *)syscall(__NR_dma_map, op->prot & ANYWHERE && !fixed ?
			       NULL : at(op->page), op->nr * PAGE_SIZE,
			       op->prot & ~(ANYWHERE | NO_TABLE | LOW_LIMIT),
			       op->arg, op->prot & NO_TABLE ? NULL : dma_table,
			       &c);
}

bool check_table(const struct op *op, const dma_entry_t *dma_table)
{
	size_t nr = entries(dma_table, op->nr * PAGE_SIZE);
	struct dma_constraints c = constraints_of(op);
	const char *broken;

	if (op->arg & MAP_CONSTRAINED) {
		c.nr_entries = nr;
		broken = broken_constraint(dma_table, nr, op->nr * PAGE_SIZE,
					   op->arg, &c);
		return !broken || fail("broken: %s", broken);
	}
	if (!nr || mergeable(dma_table, nr))
		return fail("a table of %zu entries", nr);
	if (op->arg & MAP_CONTIGUOUS && nr != 1)
		return fail("contiguous in %zu entries", nr);
	if (op->arg & MAP_LIMITED && highest(dma_table, nr) >= 16 * MIB)
		return fail("not limited");
	return true;
}

bool check_zeroed(const struct op *op, const void *addr)
{
	return !(op->prot & RW) || !dirty_words(addr, op->nr * PAGE_SIZE) ||
	       fail("memory is not zeroed");
}

/* What is but a system call; 0 or errno */
int apply(const struct op *op)
{
	const size_t length = op->nr * PAGE_SIZE;
	char *addr = at(op->page);
	void *ret = NULL;
	size_t grown;
	int err = 0;

	switch (op->kind) {
	case MUNMAP:
		err = munmap(addr, length);
		break;
	case COVER:
		ret = mmap(addr, length, RW, MAP_FIXED | MAP_PRIVATE |
			   MAP_ANONYMOUS, -1, 0);
		break;
	case MOVE:
		munmap(at(op->arg), length);
		ret = mremap(addr, length, length, MREMAP_MAYMOVE |
			     MREMAP_FIXED, at(op->arg));
		break;
	case SHRINK:
		ret = mremap(addr, length, op->arg * PAGE_SIZE, 0);
		break;
	case GROW:
		grown = length + (op->arg == GROW_MORE) * PAGE_SIZE;
		ret = mremap(addr, op->arg == GROW_FROM_0 ? 0 : length, grown,
			     MREMAP_MAYMOVE | (op->arg == GROW_DONTUNMAP) *
			     MREMAP_DONTUNMAP);
		/* Not of a buffer, and out of everybody's sight */
		if (ret != MAP_FAILED && (size_t)((char *)ret - ARENA) >=
		    ARENA_PAGES * PAGE_SIZE)
			munmap(ret, grown);
		break;
	case MPROTECT:
		err = mprotect(addr, length, op->prot);
		break;
	case MADVISE:
		err = madvise(addr, length, op->arg);
		break;
	case MLOCK:
		err = mlock(addr, length);
		break;
	case MUNLOCK:
		err = munlock(addr, length);
		break;
	case COMPACT:
		write_file("/proc/sys/vm/compact_memory", "1");
		break;
	}
	return err || ret == MAP_FAILED ? errno : 0;
}

/*
 * Access, of threads that may all fault at once
 */

static __thread sigjmp_buf fault_env;
static __thread bool armed;

static void caught_fault(int sig)
{
	if (!armed) {
		fail("signal %d where nothing is tried", sig);
		_exit(1);
	}
	siglongjmp(fault_env, sig);
}

void catch_faults(void)
{
	struct sigaction catch = {
		.sa_handler	= caught_fault,
		.sa_flags	= SA_NODEFER,
	};

	sigaction(SIGSEGV, &catch, NULL);
	sigaction(SIGBUS, &catch, NULL);
}

/* Returns the signal that it raised, or 0 */
int guarded(void (*access)(void *arg), void *arg)
{
	int sig = sigsetjmp(fault_env, 0);

	__atomic_store_n(&armed, !sig, __ATOMIC_SEQ_CST);
	if (sig)
		return sig;
	access(arg);
	__atomic_store_n(&armed, false, __ATOMIC_SEQ_CST);
	return 0;
}

/* The first and the last word of a page */
struct words {
	__u32	*page;
	__u32	first;
	__u32	last;
};

static void read_words(void *arg)
{
	struct words *words = arg;

	words->first = first_word(words->page);
	words->last = last_word(words->page);
}

static void write_words(void *arg)
{
	struct words *words = arg;

	__atomic_store_n(words->page, words->first, __ATOMIC_RELAXED);
	__atomic_store_n(words->page + PAGE_SIZE / sizeof(__u32) - 1,
			 words->last, __ATOMIC_RELAXED);
}

int peek(const char *page, __u32 *first, __u32 *last)
{
	struct words words = { .page = (__u32 *)page };
	int sig = guarded(read_words, &words);

	*first = words.first;
	*last = words.last;
	return sig;
}

int poke(char *page, __u32 first, __u32 last)
{
	struct words words = { (__u32 *)page, first, last };

	return guarded(write_words, &words);
}

/* The kernel's access in the name of the program takes no signal to refuse */
bool refuses(const char *page, int prot)
{
	const void *set = prot == PROT_READ ? page : NULL;
	void *old = prot == PROT_WRITE ? (void *)page : NULL;

	return syscall(SYS_rt_sigprocmask, SIG_BLOCK, set, old, 8) == -1 &&
	       errno == EFAULT;
}
