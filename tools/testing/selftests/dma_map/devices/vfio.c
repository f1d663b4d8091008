// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device behind an IOMMU: of a buffer of dma_map() it sees what VFIO or iommufd
 * mapped for it, at the addresses that they were asked for, and nothing else.
 * The device is QEMU's educational one, see edu.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../../kselftest_harness.h"
#include "edu.h"
#include "iommu.h"

#define LENGTH		(4 * MIB)
#define IOVA		(16 * MIB)	/* below what the device's 28 bits reach */
#define SIZE		2048		/* of a transfer */
#define PIECE		(64 * KIB)

/* Command and addresses of a device are reached by its file */
static bool edu_open(struct edu *edu, int device)
{
	struct vfio_region_info config = {
		.argsz = sizeof(config),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	struct vfio_region_info bar = {
		.argsz = sizeof(bar),
		.index = VFIO_PCI_BAR0_REGION_INDEX,
	};
	uint16_t command = PCI_COMMAND_SPACES | PCI_COMMAND_MASTER;

	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) ||
	    ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &bar) ||
	    pwrite(device, &command, sizeof(command), config.offset +
		   PCI_COMMAND) != sizeof(command))
		return false;
	edu->regs = mmap(NULL, EDU_REGS_SIZE, RW, MAP_SHARED, device,
			 bar.offset);
	return edu->regs != MAP_FAILED;
}

/* The device, with what maps memory for it */
struct assigned {
	struct pci_device pci;
	struct mapper mapper;
	struct edu edu;
};

static bool assigned_open(struct assigned *dev, const struct mapper *mapper)
{
	dev->mapper = *mapper;
	return pci_open(&dev->pci, EDU_VENDOR, EDU_DEVICE) &&
	       pci_bind(&dev->pci, "vfio-pci") &&
	       dev->mapper.open(&dev->mapper, &dev->pci) &&
	       edu_open(&dev->edu, dev->mapper.device);
}

static int map_whole(struct assigned *dev, void *addr, uint64_t iova)
{
	return dev->mapper.map(&dev->mapper, addr, LENGTH, iova);
}

static int unmap_whole(struct assigned *dev, uint64_t iova)
{
	return dev->mapper.unmap(&dev->mapper, LENGTH, iova);
}

/* Nothing can be written to any more */
static void assigned_release(struct assigned *dev)
{
	if (!dev->edu.regs)
		return;
	munmap((void *)dev->edu.regs, EDU_REGS_SIZE);
	dev->edu.regs = NULL;
	mapper_close(&dev->mapper);
}

/* As long as anything of it is in use, to take it from VFIO would wait */
static void assigned_close(struct assigned *dev)
{
	assigned_release(dev);
	pci_bind(&dev->pci, "");
	pci_close(&dev->pci);
}

/*
 * The tests
 */

FIXTURE(vfio)
{
	struct assigned dev;
	struct dma_buffer buf;
};

FIXTURE_VARIANT(vfio)
{
	const struct mapper *mapper;
};

FIXTURE_VARIANT_ADD(vfio, type1) { .mapper = &mapper_type1 };
#ifdef VFIO_DEVICE_BIND_IOMMUFD
FIXTURE_VARIANT_ADD(vfio, iommufd) { .mapper = &mapper_iommufd };
#endif

FIXTURE_SETUP(vfio)
{
	ASSERT_TRUE(assigned_open(&self->dev, variant->mapper));
	ASSERT_TRUE(dma_buffer_get(&self->buf, LENGTH, MAP_SHARED |
				   MAP_CONTIGUOUS));
}

FIXTURE_TEARDOWN(vfio)
{
	assigned_close(&self->dev);
	dma_buffer_put(&self->buf);
}

static int write_by_device(const struct edu *edu, uint64_t address)
{
	return edu_transfer(edu, address, 0, SIZE, EDU_DMA_TO_MEMORY);
}

static int read_by_device(const struct edu *edu, uint64_t address)
{
	return edu_transfer(edu, address, 0, SIZE, 0);
}

/* How often the kernel has told that the IOMMU stopped access to @phys */
static long faults_told(uint64_t phys)
{
	static char record[8 * KIB];
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char fault[40];
	ssize_t length;
	long nr = 0;

	snprintf(fault, sizeof(fault), "fault addr 0x%llx ",
		 (unsigned long long)phys);
	while ((length = read(fd, record, sizeof(record) - 1)) > 0) {
		record[length] = 0;
		nr += !!strstr(record, fault);
	}
	close(fd);
	return nr;
}

/* Also where the device's 28 bits reach */
TEST_F(vfio, physical_address_is_blocked)
{
	struct dma_buffer low;
	uint64_t phys;
	long faults;

	ASSERT_TRUE(dma_buffer_get(&low, PAGE_SIZE, MAP_SHARED | MAP_LIMITED));
	memset(low.addr, 0xaa, PAGE_SIZE);
	phys = dma_address(&low, 0);
	faults = faults_told(phys);
	EXPECT_EQ(0, write_by_device(&self->dev.edu, phys));
	for (size_t at = 0; at < PAGE_SIZE; at++)
		ASSERT_EQ(0xaa, ((uint8_t *)low.addr)[at]);
	EXPECT_TRUE(wait_until(faults_told(phys) > faults, EDU_TIMEOUT));
	dma_buffer_put(&low);
}

TEST_F(vfio, mapped_address_works)
{
	ASSERT_EQ(0, map_whole(&self->dev, self->buf.addr, IOVA));
	tell("the buffer is 0x%08lx for the device", IOVA);
	fill_pattern(self->buf.addr, SIZE, 1);
	ASSERT_EQ(0, read_by_device(&self->dev.edu, IOVA));
	ASSERT_EQ(0, write_by_device(&self->dev.edu, IOVA + LENGTH - SIZE));
	tell_bytes("came back", &self->buf, LENGTH - SIZE);
	EXPECT_EQ(0, pattern_differs(self->buf.addr + LENGTH - SIZE, SIZE, 1));
	EXPECT_EQ(0, unmap_whole(&self->dev, IOVA));
}

/* How many pages of 2 MiB or more the IOMMU has (INTEL_IOMMU_DEBUGFS) */
static long large_iommu_pages(const struct pci_device *pci)
{
	static char text[MIB];
	char path[96], *line, *save;
	bool of_device = true;
	long nr = 0;
	size_t length;

	snprintf(path, sizeof(path),
		 "/sys/kernel/debug/iommu/intel/%s/domain_translation_struct",
		 pci->name);
	length = read_file(path, text, sizeof(text));
	if (!length)
		snprintf(path, sizeof(path),
			 "/sys/kernel/debug/iommu/intel/%s/0/domain_translation_struct",
			 pci->name);
	if (!length)
		length = read_file(path, text, sizeof(text));
	/* Before Linux 6.6, of all devices */
	if (!length &&
	    !read_file("/sys/kernel/debug/iommu/intel/domain_translation_struct",
		       text, sizeof(text)))
		return -1;
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		unsigned long long pfn, level[5] = { 0 };

		if (!strncmp(line, "Device ", strlen("Device ")))
			of_device = strstr(line, pci->name);
		if (!of_device)
			continue;
		/* IOVA_PFN, then an entry of each level; the last ones are 0 */
		if (sscanf(line, "%llx | %llx %llx %llx %llx %llx", &pfn,
			   &level[0], &level[1], &level[2], &level[3],
			   &level[4]) < 4)
			continue;
		if (pfn >= IOVA / PAGE_SIZE &&
		    pfn < (IOVA + LENGTH) / PAGE_SIZE)
			nr += !level[4] && (level[3] & (1 << 7) ||
					    level[2] & (1 << 7));
	}
	return nr;
}

TEST_F(vfio, large_chunks_become_large_pages)
{
	long nr;

	ASSERT_EQ(0, map_whole(&self->dev, self->buf.addr, IOVA));
	nr = large_iommu_pages(&self->dev.pci);
	tell("the IOMMU has %ld pages of 2 MiB for %lu MiB", nr, LENGTH / MIB);
	EXPECT_EQ(LENGTH / PMD_SIZE, nr);
	EXPECT_EQ(0, unmap_whole(&self->dev, IOVA));
}

/* Takes what there is below 16 MiB; how much of that is within the range? */
static size_t had_by_others(uint64_t begin, uint64_t end)
{
	static struct dma_buffer all[LIMIT / PIECE];
	size_t nr = 0, had = 0;

	while (nr < ARRAY_SIZE(all) &&
	       dma_buffer_get(&all[nr], PIECE, MAP_SHARED | MAP_LIMITED))
		nr++;
	while (nr--) {
		for (size_t at = 0; at < PIECE; at += PAGE_SIZE) {
			uint64_t phys = dma_address(&all[nr], at);

			had += phys >= begin && phys < end;
		}
		dma_buffer_put(&all[nr]);
	}
	return had;
}

TEST_F(vfio, pin_outlives_the_buffer)
{
	struct dma_buffer low;
	uint64_t begin;

	ASSERT_TRUE(dma_buffer_get(&low, LENGTH, MAP_SHARED | MAP_CONTIGUOUS |
				   MAP_LIMITED));
	begin = dma_address(&low, 0);
	ASSERT_EQ(0, map_whole(&self->dev, low.addr, IOVA));
	ASSERT_EQ(0, map_whole(&self->dev, self->buf.addr, IOVA + LENGTH));
	fill_pattern(low.addr, SIZE, 2);
	dma_buffer_put(&low);
	EXPECT_EQ(0, had_by_others(begin, begin + LENGTH));

	/* What was in it is still there for the device */
	EXPECT_EQ(0, read_by_device(&self->dev.edu, IOVA));
	EXPECT_EQ(0, write_by_device(&self->dev.edu, IOVA + LENGTH));
	EXPECT_EQ(0, pattern_differs(self->buf.addr, SIZE, 2));
	EXPECT_EQ(0, unmap_whole(&self->dev, IOVA));
	EXPECT_NE(0, had_by_others(begin, begin + LENGTH));
}

/*
 * A driver that is killed while its device is about to write (a transfer takes
 * 100 ms).  The parent has the files open, so that the device goes on, but not
 * the memory.
 */

FIXTURE(killed)
{
	struct assigned dev;
	uint64_t *phys;
};

FIXTURE_VARIANT(killed)
{
	const struct mapper *mapper;
};

FIXTURE_VARIANT_ADD(killed, type1) { .mapper = &mapper_type1 };
#ifdef VFIO_DEVICE_BIND_IOMMUFD
FIXTURE_VARIANT_ADD(killed, iommufd) { .mapper = &mapper_iommufd };
#endif

FIXTURE_SETUP(killed)
{
	ASSERT_TRUE(assigned_open(&self->dev, variant->mapper));
	self->phys = mmap(NULL, PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS, -1,
			  0);
	ASSERT_NE(MAP_FAILED, self->phys);
}

FIXTURE_TEARDOWN(killed)
{
	assigned_close(&self->dev);
}

static int killed_in_transfer(struct mapper *mapper, const struct edu *edu,
			      uint64_t *phys)
{
	struct dma_buffer buf;

	if (!dma_buffer_get(&buf, SIZE, MAP_SHARED | MAP_LIMITED) ||
	    mapper->map(mapper, buf.addr, PAGE_SIZE, IOVA))
		return 1;
	fill_pattern(buf.addr, SIZE, 3);
	*phys = dma_address(&buf, 0);
	if (read_by_device(edu, IOVA) ||
	    write_by_device(edu, IOVA + SIZE) ||
	    pattern_differs(buf.addr + SIZE, SIZE, 3) ||
	    edu_start(edu, IOVA, 0, SIZE, EDU_DMA_TO_MEMORY))
		return 2;
	raise(SIGKILL);
	return 3;
}

TEST_F(killed, driver_leaves_no_memory_that_the_device_writes_to)
{
	const uint8_t *page;
	pid_t child;

	stay_on_this_cpu();
	child = fork();
	if (!child)
		_exit(killed_in_transfer(&self->dev.mapper, &self->dev.edu,
					 self->phys));
	ASSERT_EQ(-SIGKILL, wait_for(child));
	EXPECT_EQ(0, had_by_others(*self->phys, *self->phys + PAGE_SIZE));
	EXPECT_TRUE(edu_wait(&self->dev.edu));
	EXPECT_EQ(0, had_by_others(*self->phys, *self->phys + PAGE_SIZE));

	/* And is free as soon as there is no way to write to it any more */
	assigned_release(&self->dev);
	page = dma_find(*self->phys);
	ASSERT_NE(NULL, page);
	EXPECT_EQ(0, dirty_words(page, PAGE_SIZE));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
