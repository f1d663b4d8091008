/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * QEMU's educational device: DMA between memory and the 4 KiB that the device
 * has, with addresses of 28 bits.
 *
 * The registers are as in docs/specs/edu.rst of QEMU ("EDU device").
 */
#ifndef DMA_MAP_EDU_H
#define DMA_MAP_EDU_H

#include <errno.h>

#include "device.h"

#define EDU_VENDOR	0x1234
#define EDU_DEVICE	0x11e8

#define EDU_REGS_SIZE	MIB

#define EDU_IDENT	0x00	/* 0xRRrr00ed: major and minor version */
#define EDU_ALIVE	0x04	/* reads as what was written, inverted */
#define EDU_IRQ_STATUS	0x24
#define EDU_IRQ_ACK	0x64
#define EDU_DMA_FROM	0x80	/* 64 bits each */
#define EDU_DMA_TO	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_COMMAND	0x98

#define EDU_DMA_START		0x01	/* reads as 1 until it is done */
#define EDU_DMA_TO_MEMORY	0x02
#define EDU_DMA_IRQ		0x04
#define EDU_DMA_IRQ_STATUS	0x100

/* Its own memory, by the addresses of its DMA engine */
#define EDU_MEMORY	0x40000
#define EDU_MEMORY_SIZE	4096

/* What it cannot address it cuts off: the wrong memory would be written to */
#define EDU_DMA_MASK	((1ULL << 28) - 1)

#define EDU_TIMEOUT	5000	/* ms; a transfer takes 100 */

struct edu {
	struct pci_device pci;
	volatile void *regs;
};

static inline bool edu_busy(const struct edu *edu)
{
	return read32(edu->regs, EDU_DMA_COMMAND) & EDU_DMA_START;
}

/*
 * Starts a transfer of @length bytes of the device's memory, from @at on, from or
 * to the address @phys.  Returns 0 or a negated errno.
 */
static inline int edu_start(const struct edu *edu, uint64_t phys, size_t at,
			    size_t length, unsigned int flags)
{
	uint64_t from = phys, to = EDU_MEMORY + at;

	/* QEMU (7.2 at least) takes the last byte for one too many */
	if (at + length >= EDU_MEMORY_SIZE)
		return -EINVAL;
	if (phys + length - 1 > EDU_DMA_MASK)
		return -ERANGE;
	if (flags & EDU_DMA_TO_MEMORY) {
		from = EDU_MEMORY + at;
		to = phys;
	}
	tell("edu is told: %zu bytes from 0x%08llx to 0x%08llx", length,
	     (unsigned long long)from, (unsigned long long)to);
	write64(edu->regs, EDU_DMA_FROM, from);
	write64(edu->regs, EDU_DMA_TO, to);
	write64(edu->regs, EDU_DMA_COUNT, length);
	dma_wmb();
	write64(edu->regs, EDU_DMA_COMMAND, flags | EDU_DMA_START);
	return 0;
}

static inline bool edu_wait(const struct edu *edu)
{
	bool done = wait_until(!edu_busy(edu), EDU_TIMEOUT);

	dma_rmb();
	return done;
}

static inline int edu_transfer(const struct edu *edu, uint64_t phys, size_t at,
			       size_t length, unsigned int flags)
{
	int error = edu_start(edu, phys, at, length, flags);

	if (error)
		return error;
	if (!edu_wait(edu))
		return -ETIMEDOUT;
	tell("edu says that it is done");
	return 0;
}

#endif
