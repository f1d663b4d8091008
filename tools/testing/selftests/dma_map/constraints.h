/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whether a table meets what was asked for, and demands by the thousand
 */
#ifndef DMA_MAP_CONSTRAINTS_H
#define DMA_MAP_CONSTRAINTS_H

#include "dma_map_test.h"

/* NULL, or what of the contract the entries do not keep */
const char *broken_constraint(const dma_entry_t *entry, size_t nr,
			      size_t length, int flags,
			      const struct dma_constraints *c);

struct demand {
	size_t length;
	int flags;
	struct dma_constraints c;
};

/* What became of random demands */
struct outcome {
	unsigned long met, contradictory, too_many, not_had;
	unsigned long falsely;	/* not had, though free memory would have met it */
	unsigned long broken;	/* not as the contract has it */
};

void random_demands(unsigned long nr, __u64 seed, struct outcome *outcome);
void break_up_memory(__u64 seed);

#endif
