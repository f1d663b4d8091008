/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the drivers here share: PCI devices by sysfs, their registers, and the
 * address that a device knows a byte of a buffer by.
 */
#ifndef DMA_MAP_DEVICE_H
#define DMA_MAP_DEVICE_H

#include <linux/dma_map.h>
#include <linux/pci_regs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../kselftest.h"
#include "../dma_map_test.h"

/* A physical address that no byte has */
#define NOWHERE			UINT64_MAX

/*
 * A buffer of dma_map(), and its table.  Devices see physical addresses as long
 * as no IOMMU translates.
 */
struct dma_buffer {
	void *addr;
	size_t length;
	dma_entry_t *table;
};

bool dma_buffer_get(struct dma_buffer *buf, size_t length, int flags);
bool dma_buffer_get_for(struct dma_buffer *buf, size_t length, int flags,
			struct dma_constraints *constraints);
bool dma_buffer_get_pieces(struct dma_buffer *buf, size_t length, size_t piece);
void dma_buffer_put(struct dma_buffer *buf);
const void *dma_find(uint64_t phys);
void stay_on_this_cpu(void);
uint64_t dma_address(const struct dma_buffer *buf, size_t at);
uint64_t dma_run(const struct dma_buffer *buf, size_t at, size_t *length);

/* PCI Local Bus Specification 3.0, 6.1 and 6.2.2 */
#define PCI_COMMAND_SPACES	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY)

struct pci_device {
	char name[16];		/* as in /sys/bus/pci/devices */
	int config;
	volatile void *bar[PCI_STD_NUM_BARS];
	size_t bar_size[PCI_STD_NUM_BARS];
};

bool pci_open(struct pci_device *pci, uint16_t vendor, uint16_t device);
void pci_close(struct pci_device *pci);
volatile void *pci_map(struct pci_device *pci, int bar);
uint32_t pci_read(const struct pci_device *pci, int offset, int size);
void pci_write(const struct pci_device *pci, int offset, uint32_t value,
	       int size);
void pci_bus_master(const struct pci_device *pci, bool on);
bool pci_bind(const struct pci_device *pci, const char *driver);

/* Registers: little-endian, as is whoever has them mapped */
static inline uint32_t read32(const volatile void *base, size_t offset)
{
	return *(const volatile uint32_t *)((const volatile char *)base +
					    offset);
}

static inline void write32(volatile void *base, size_t offset, uint32_t value)
{
	*(volatile uint32_t *)((volatile char *)base + offset) = value;
}

static inline uint64_t read64(const volatile void *base, size_t offset)
{
	return *(const volatile uint64_t *)((const volatile char *)base +
					    offset);
}

static inline void write64(volatile void *base, size_t offset, uint64_t value)
{
	*(volatile uint64_t *)((volatile char *)base + offset) = value;
}

/* In the order of the program, for a device that looks at memory meanwhile */
#define dma_wmb()		__atomic_thread_fence(__ATOMIC_RELEASE)
#define dma_rmb()		__atomic_thread_fence(__ATOMIC_ACQUIRE)

/* Time: whether @cond came true within so many milliseconds */
uint64_t milliseconds(void);

#define wait_until(cond, limit)						\
({									\
	uint64_t wait_end = milliseconds() + (limit);			\
	bool wait_met, wait_late;					\
	do {								\
		wait_late = milliseconds() >= wait_end;			\
		wait_met = (cond);					\
	} while (!wait_met && !wait_late);				\
	wait_met;							\
})

/*
 * The end of a driver, expected or not: @stop makes its device leave memory alone
 * and may be called at any time, also by a signal's handler.
 */
void stop_at_end(void (*stop)(void *device), void *device);
void stop_now(void *device);

/*
 * SIGKILL leaves a driver no time for that: its memory would be free while the
 * device still writes to it.  So @driver runs in a child of a process that holds
 * the memory, too, and that stops the devices that it knows when the child ends.
 * Returns what wait_for() does.
 */
int supervised(int (*driver)(void *arg), void *arg);

/* For people, when DMA_MAP_TELL is set: what a device is told, what comes back */
void tell(const char *format, ...) __printf(1, 2);
void tell_bytes(const char *what, const struct dma_buffer *buf, size_t at);

/* Contents: another byte at each place, and for each seed */
void fill_pattern(void *addr, size_t length, unsigned int seed);
size_t pattern_differs(const void *addr, size_t length, unsigned int seed);

/* For whoever compares on the other side: into the file that NAME names */
bool save(const char *variable, const void *addr, size_t length);

#endif
