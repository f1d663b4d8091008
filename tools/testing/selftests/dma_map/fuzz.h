/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fuzzer of dma_map(2): fuzz.c runs it, fuzz_ops.c makes the operations up,
 * fuzz_procs.c has processes do them in turn, fuzz_model.c checks them, and
 * fuzz_race.c has threads do them all at once.
 */
#ifndef DMA_MAP_FUZZ_H
#define DMA_MAP_FUZZ_H

#include <stdio.h>

#include "../kselftest.h"
#include "dma_map_test.h"

/* Out of the way of whatever the kernel places by itself, and below 2 GiB */
#define ARENA			((char *)0x60000000)
#define ARENA_PAGES		2048U
#define LARGEST_PAGES		1024U
#define PROCS			4U
#define PIPES			4U

/* Up to MPROTECT, what is mapped may change */
enum kind {
	DMA_MAP, MUNMAP, COVER, MOVE, SHRINK, GROW, MPROTECT, MADVISE, MLOCK,
	MUNLOCK, MINCORE, READ, WRITE, PIN, UNPIN, FORK, END, COMPACT, CHECK
};

/*
 * Pages [@page, @page + @nr) of the arena of process @proc; what @prot and @arg
 * are depends on the kind
 */
struct op {
	__u8	kind;
	__u8	proc;
	__u16	page;
	__u16	nr;
	__u16	prot;
	__u32	arg;
};

/* With DMA_MAP, in @prot: no hint, and what makes it fail */
#define ANYWHERE		0x100
#define NO_TABLE		0x200
#define LOW_LIMIT		0x400

/* What there may be no memory for */
#define SCARCE		(MAP_CONTIGUOUS | MAP_LIMITED | MAP_CONSTRAINED)

enum end { BY_EXIT, BY_EXEC, BY_SIGKILL, WAYS };
enum grow { GROW_MORE, GROW_FROM_0, GROW_DONTUNMAP, GROWS };

static inline char *at(unsigned int page)
{
	return ARENA + page * PAGE_SIZE;
}

static inline __u32 first_word(const void *page)
{
	return __atomic_load_n((__u32 *)page, __ATOMIC_RELAXED);
}

static inline __u32 last_word(const void *page)
{
	return __atomic_load_n((__u32 *)(page + PAGE_SIZE) - 1,
			       __ATOMIC_RELAXED);
}

/* fuzz_ops.c */
__u32 pick(__u64 *rng, __u32 below);
struct op random_op(__u64 *rng, unsigned int procs);
void print_op(FILE *file, const char *prefix, const struct op *op);
bool parse_op(const char *line, struct op *op);
void *call_dma_map(const struct op *op, dma_entry_t *dma_table);
bool check_table(const struct op *op, const dma_entry_t *dma_table);
bool check_zeroed(const struct op *op, const void *addr);
int apply(const struct op *op);

/* A signal leaves @page at the one that raised it */
struct walk {
	unsigned int	page;
	unsigned int	to;
};

static inline void next_page(struct walk *walk)
{
	__atomic_store_n(&walk->page, walk->page + 1, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Access: 0, or the signal that it raised */
void catch_faults(void);
int guarded(void (*access)(void *arg), void *arg);
int peek(const char *page, __u32 *first, __u32 *last);
int poke(char *page, __u32 first, __u32 last);
bool refuses(const char *page, int prot);

/* fuzz_model.c: what has to be, and the operations that are checked by it */
bool model_start(void);
void model_end(void);
void model_enter(unsigned int slot);
bool model_step(const struct op *op);
bool model_check_all(void);
void model_inherit(unsigned int slot);
void model_forget(unsigned int slot);
long model_charged(void);

/* fuzz_procs.c: the processes that do them, one at a time */
bool procs_start(void);
void procs_end(void);
unsigned int procs_run(const struct op *op, unsigned int nr);
bool procs_check(void);

/* fuzz_race.c */
void race(__u64 seed, unsigned int nr, unsigned int threads);

/* fuzz.c: remembers the first reason; returns false */
bool __printf(1, 2) fail(const char *format, ...);
bool failed(void);
void count_op(void);

#endif /* DMA_MAP_FUZZ_H */
