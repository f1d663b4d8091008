// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory for a device behind an IOMMU; see iommu.h
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#ifdef VFIO_DEVICE_BIND_IOMMUFD
#include <linux/iommufd.h>
#endif

#include "iommu.h"

/*
 * VFIO with its own containers (type 1)
 */

static int group_number(const struct pci_device *pci)
{
	char path[96], target[96], *number;
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group",
		 pci->name);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return -1;
	target[length] = 0;
	number = strrchr(target, '/');
	return number ? atoi(number + 1) : -1;
}

static bool type1_open(struct mapper *mapper, const struct pci_device *pci)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/vfio/%d", group_number(pci));
	mapper->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	mapper->group = open(path, O_RDWR | O_CLOEXEC);
	if (mapper->container < 0 || mapper->group < 0 ||
	    ioctl(mapper->group, VFIO_GROUP_SET_CONTAINER,
		  &mapper->container) ||
	    ioctl(mapper->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		return false;
	mapper->device = ioctl(mapper->group, VFIO_GROUP_GET_DEVICE_FD,
			       pci->name);
	return mapper->device >= 0;
}

static int type1_map(struct mapper *mapper, void *addr, size_t length,
		     uint64_t iova)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz	= sizeof(map),
		.flags	= VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr	= (uintptr_t)addr,
		.iova	= iova,
		.size	= length,
	};

	return ioctl(mapper->container, VFIO_IOMMU_MAP_DMA, &map) ? -errno : 0;
}

static int type1_unmap(struct mapper *mapper, size_t length, uint64_t iova)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz	= sizeof(unmap),
		.iova	= iova,
		.size	= length,
	};

	return ioctl(mapper->container, VFIO_IOMMU_UNMAP_DMA, &unmap) ? -errno :
									0;
}

const struct mapper mapper_type1 = {
	.open	= type1_open,
	.map	= type1_map,
	.unmap	= type1_unmap,
};

/*
 * VFIO with iommufd
 */

#ifdef VFIO_DEVICE_BIND_IOMMUFD
/* The device's own file: /dev/vfio/devices/vfioN */
static int open_device_file(const struct pci_device *pci)
{
	char path[96];
	struct dirent *entry;
	int fd = -1;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev",
		 pci->name);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "vfio", 4))
			continue;
		snprintf(path, sizeof(path), "/dev/vfio/devices/%.20s",
			 entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (dir)
		closedir(dir);
	return fd;
}

static bool iommufd_open(struct mapper *mapper, const struct pci_device *pci)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
	};
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	mapper->container = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	mapper->device = open_device_file(pci);
	mapper->group = -1;
	bind.iommufd = mapper->container;
	if (mapper->container < 0 || mapper->device < 0 ||
	    ioctl(mapper->device, VFIO_DEVICE_BIND_IOMMUFD, &bind) ||
	    ioctl(mapper->container, IOMMU_IOAS_ALLOC, &alloc))
		return false;
	mapper->ioas = alloc.out_ioas_id;
	attach.pt_id = mapper->ioas;
	return !ioctl(mapper->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
}

static int iommufd_map(struct mapper *mapper, void *addr, size_t length,
		       uint64_t iova)
{
	struct iommu_ioas_map map = {
		.size		= sizeof(map),
		.flags		= IOMMU_IOAS_MAP_FIXED_IOVA |
				  IOMMU_IOAS_MAP_READABLE |
				  IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id	= mapper->ioas,
		.user_va	= (uintptr_t)addr,
		.length		= length,
		.iova		= iova,
	};

	return ioctl(mapper->container, IOMMU_IOAS_MAP, &map) ? -errno : 0;
}

static int iommufd_unmap(struct mapper *mapper, size_t length, uint64_t iova)
{
	struct iommu_ioas_unmap unmap = {
		.size		= sizeof(unmap),
		.ioas_id	= mapper->ioas,
		.iova		= iova,
		.length		= length,
	};

	return ioctl(mapper->container, IOMMU_IOAS_UNMAP, &unmap) ? -errno : 0;
}

const struct mapper mapper_iommufd = {
	.open	= iommufd_open,
	.map	= iommufd_map,
	.unmap	= iommufd_unmap,
};
#endif

void mapper_close(struct mapper *mapper)
{
	close(mapper->device);
	if (mapper->group >= 0)
		close(mapper->group);
	close(mapper->container);
}
