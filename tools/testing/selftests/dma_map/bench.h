/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of the benchmark share
 */
#ifndef DMA_MAP_BENCH_H
#define DMA_MAP_BENCH_H

#include "dma_map_test.h"

#define GIB			(1024 * MIB)
#define MOST			GIB

/* The heap of CMA, whose name is not the same in each version of the kernel */
#define CMA_HEAP		"/dev/dma_heap/reserved"

/* A table for the largest buffer */
extern dma_entry_t chunks[DMA_TABLE_MAX(MOST)];

/* Instructions where an emulator counts them, or nanoseconds with --wall */
uint64_t now(void);

void die(const char *what);
void touch(void *addr, size_t length);

/* The set-up of a way as users would do it, for comparison; 0: not to be had */
uint64_t cost_of_heap(size_t length);

/* What is measured: 0, or the exit status */
int bench_entries(char **names);
int bench_contiguous(char **names);
int bench_limited(char **names);
int bench_signal(char **names);

#endif
