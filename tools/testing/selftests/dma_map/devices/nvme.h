/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Registers, commands and data of NVMe, as far as nvme.c has a use for them, and
 * what it keeps of a controller.
 *
 * Sections ("NVMe") are those of the NVM Express Base Specification 1.4.
 */
#ifndef DMA_MAP_NVME_H
#define DMA_MAP_NVME_H

#include "device.h"

/* QEMU's, docs/specs/pci-ids.rst */
#define NVME_VENDOR	0x1b36
#define NVME_DEVICE	0x0010

/* NVMe 3.1: registers */
#define NVME_CAP	0x00
#define NVME_CC		0x14
#define NVME_CSTS	0x1c
#define NVME_AQA	0x24
#define NVME_ASQ	0x28
#define NVME_ACQ	0x30
#define NVME_DOORBELLS	0x1000

#define CAP_STRIDE(cap)		(4U << ((cap) >> 32 & 0xf))
#define CAP_TIMEOUT(cap)	(((cap) >> 24 & 0xff) * 500)	/* ms */
/* Entries of 64 and 16 bytes, pages of 4 KiB, the NVM command set */
#define CC_SIZES		(6 << 16 | 4 << 20)
#define CC_ENABLE		0x01
#define CSTS_READY		0x01
#define CSTS_FATAL		0x02

/* NVMe 5 and 6: commands */
#define NVME_CREATE_SQ	0x01
#define NVME_CREATE_CQ	0x05
#define NVME_IDENTIFY	0x06
#define NVME_WRITE	0x01
#define NVME_READ	0x02
#define QUEUE_CONTIGUOUS	0x01

/* NVMe 5.15.2: data of Identify, by offset */
#define IDENTIFY_NAMESPACE	0
#define IDENTIFY_CONTROLLER	1
#define CONTROLLER_MDTS		77	/* largest transfer: 2^n pages, 0: any */
#define NAMESPACE_SIZE		0	/* in blocks */
#define NAMESPACE_FLBAS		26
#define NAMESPACE_LBAF		128	/* formats; 2^n bytes a block at 2 */

/* NVMe 4.2 */
struct nvme_command {
	uint8_t opcode;
	uint8_t flags;
	uint16_t id;
	uint32_t namespace;
	uint64_t reserved;
	uint64_t metadata;
	uint64_t prp1;
	uint64_t prp2;
	uint32_t dword10[6];
};

/* NVMe 4.6; the lowest bit of status is the phase */
struct nvme_completion {
	uint32_t result;
	uint32_t reserved;
	uint16_t head;
	uint16_t queue;
	uint16_t id;
	uint16_t status;
};

/*
 * The driver
 */

#define ADMIN		0
#define IO		1
#define NAMESPACE	1

#define DEPTH		64	/* commands of a queue, which fill a page */
#define PRPS		(PAGE_SIZE / sizeof(uint64_t))	/* in a list */

struct nvme_queue {
	struct nvme_command *commands;
	volatile struct nvme_completion *completions;
	unsigned int tail, head, phase;
	unsigned int in_flight;
	bool busy[DEPTH];	/* by the id of the command, its place */
};

/* Pages of the driver's own memory */
enum {
	PAGE_ADMIN_SQ, PAGE_ADMIN_CQ, PAGE_IO_SQ, PAGE_IO_CQ, PAGE_IDENTIFY,
	PAGE_LISTS, NR_PAGES = PAGE_LISTS + DEPTH,
};

struct nvme {
	struct pci_device pci;
	volatile void *regs;
	unsigned int stride;
	struct dma_buffer own;
	struct nvme_queue queue[2];
	size_t most;		/* bytes in a transfer */
	size_t block;		/* bytes */
	size_t size;		/* of the disk, bytes */
	unsigned long nr_commands, nr_prps;
};

#endif
