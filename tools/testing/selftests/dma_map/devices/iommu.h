/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory for a device behind an IOMMU, mapped at an address of one's choice by
 * VFIO's own containers or by iommufd.
 *
 * The interfaces are those of Documentation/driver-api/vfio.rst and
 * Documentation/userspace-api/iommufd.rst of the kernel.
 */
#ifndef DMA_MAP_IOMMU_H
#define DMA_MAP_IOMMU_H

#include "device.h"

/* Who maps, and what for that is open */
struct mapper {
	bool (*open)(struct mapper *mapper, const struct pci_device *pci);
	int (*map)(struct mapper *mapper, void *addr, size_t length,
		   uint64_t iova);
	int (*unmap)(struct mapper *mapper, size_t length, uint64_t iova);
	int device;
	int container;		/* or the descriptor of iommufd */
	int group;
	uint32_t ioas;
};

extern const struct mapper mapper_type1, mapper_iommufd;

void mapper_close(struct mapper *mapper);

#endif
