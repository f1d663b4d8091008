// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the drivers here share; see device.h
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "device.h"

#define PCI_DEVICES	"/sys/bus/pci/devices"

/*
 * For people
 */

/* A disk is many transfers of one kind, of which the first ones tell enough */
#define TOLD_LINES	32

void tell(const char *format, ...)
{
	static int lines;
	va_list arguments;

	if (!getenv("DMA_MAP_TELL") || ++lines > TOLD_LINES)
		return;
	printf("#   ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf(lines < TOLD_LINES ? "\n" : "\n#   and so on\n");
	fflush(stdout);
}

/* The first bytes of what is @at, and where that is */
void tell_bytes(const char *what, const struct dma_buffer *buf, size_t at)
{
	const uint8_t *byte = buf->addr + at;
	char hex[3 * 8 + 1], text[8 + 1];

	for (size_t i = 0; i < 8; i++) {
		sprintf(hex + 3 * i, " %02x", byte[i]);
		text[i] = isprint(byte[i]) ? byte[i] : '.';
	}
	text[8] = 0;
	tell("%s:%s \"%s\" at %p, physical address 0x%09llx", what, hex, text,
	     byte, (unsigned long long)dma_address(buf, at));
}

static void tell_table(const struct dma_buffer *buf)
{
	const dma_entry_t *entry = buf->table;
	size_t nr = entries(entry, buf->length), begin = 0;

	tell("buffer: %zu KiB at %p in %zu chunks", buf->length / KIB,
	     buf->addr, nr);
	for (size_t i = 0; i < nr && i < 4; begin += entry++->len, i++)
		tell("  from %4zu KiB on: %4zu KiB, physical address 0x%09llx",
		     begin / KIB, (size_t)entry->len / KIB,
		     (unsigned long long)entry->physaddr);
}

/*
 * Buffers
 */

/* For a device with these demands; their size and node are filled in here */
bool dma_buffer_get_for(struct dma_buffer *buf, size_t length, int flags,
			struct dma_constraints *constraints)
{
	if (constraints) {
		constraints->size = sizeof(*constraints);
		constraints->node = -1;
		flags |= MAP_CONSTRAINED;
	}
	buf->length = page_align(length);
	buf->addr = MAP_FAILED;
	buf->table = calloc(DMA_TABLE_MAX(length), sizeof(*buf->table));
	if (!buf->table)
		return false;
	buf->addr = (void *)syscall(__NR_dma_map, NULL, length,
				    PROT_READ | PROT_WRITE, flags, buf->table,
				    constraints);
	if (buf->addr == MAP_FAILED) {
		free(buf->table);
		buf->table = NULL;
		return false;
	}
	tell_table(buf);
	return true;
}

bool dma_buffer_get(struct dma_buffer *buf, size_t length, int flags)
{
	return dma_buffer_get_for(buf, length, flags, NULL);
}

/*
 * In pieces that lie apart, as memory is on a machine that is up for long: what
 * comes between two is given back at last.
 */
bool dma_buffer_get_pieces(struct dma_buffer *buf, size_t length, size_t piece)
{
	size_t nr = 0, spacers = 0;
	dma_entry_t entry[DMA_TABLE_MAX(piece)];
	void *spacer[length / piece];
	bool done = true;

	buf->length = length;
	buf->table = calloc(DMA_TABLE_MAX(length), sizeof(*buf->table));
	if (!buf->table || length % piece)
		return false;
	buf->addr = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	for (size_t at = 0; at < length && done; at += piece) {
		done = dma_map(buf->addr + at, piece, RW, MAP_SHARED |
			       MAP_FIXED, buf->table + nr) != MAP_FAILED;
		if (done)
			nr += entries(buf->table + nr, piece);
		spacer[spacers] = dma_map(NULL, piece, RW, MAP_SHARED, entry);
		if (spacer[spacers] != MAP_FAILED)
			spacers++;
	}
	while (spacers)
		munmap(spacer[--spacers], piece);
	if (done)
		tell_table(buf);
	else
		dma_buffer_put(buf);
	return done;
}

void dma_buffer_put(struct dma_buffer *buf)
{
	if (buf->table)
		munmap(buf->addr, buf->length);
	free(buf->table);
	buf->table = NULL;
}

/* Where byte @at lies, and how many bytes from there on lie side by side */
uint64_t dma_run(const struct dma_buffer *buf, size_t at, size_t *length)
{
	const dma_entry_t *entry = buf->table;
	size_t begin = 0;

	if (at >= buf->length)
		return NOWHERE;
	while (at - begin >= entry->len)
		begin += (entry++)->len;
	*length = entry->len - (at - begin);
	return entry->physaddr + (at - begin);
}

uint64_t dma_address(const struct dma_buffer *buf, size_t at)
{
	size_t length;

	return dma_run(buf, at, &length);
}

/*
 * Gets pages below 16 MiB, which only exit gives back, until the one is there.
 * What a CPU freed last it allocates first: a test stays on one CPU.
 */
const void *dma_find(uint64_t phys)
{
	struct dma_buffer buf;

	for (int i = 0; i < 1000; i++) {
		if (!dma_buffer_get(&buf, PAGE_SIZE, MAP_SHARED | MAP_LIMITED))
			return NULL;
		if (dma_address(&buf, 0) == phys)
			return buf.addr;
	}
	return NULL;
}

void stay_on_this_cpu(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(sched_getcpu(), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		perror("sched_setaffinity");
}

/*
 * Ends
 */

#define MOST_DEVICES	4

static struct {
	void (*stop)(void *device);
	void *device;
} ending[MOST_DEVICES];

static void stop_all(void)
{
	for (int i = 0; i < MOST_DEVICES; i++)
		if (ending[i].stop)
			ending[i].stop(ending[i].device);
}

/* And end as if there were no handler */
static void stop_by_signal(int signal)
{
	stop_all();
	raise(signal);
}

static void catch_ends(void)
{
	static const int signals[] = {
		SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS,
		SIGFPE, SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM,
		SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGIO, SIGSYS,
	};
	const struct sigaction action = {
		.sa_handler = stop_by_signal,
		.sa_flags = SA_RESETHAND,
	};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &action, NULL);
	atexit(stop_all);
}

void stop_at_end(void (*stop)(void *device), void *device)
{
	static bool caught;

	if (!caught)
		catch_ends();
	caught = true;
	for (int i = 0; i < MOST_DEVICES; i++) {
		if (ending[i].stop)
			continue;
		ending[i].device = device;
		ending[i].stop = stop;
		return;
	}
	abort();
}

void stop_now(void *device)
{
	for (int i = 0; i < MOST_DEVICES; i++) {
		if (!ending[i].stop || ending[i].device != device)
			continue;
		ending[i].stop(device);
		ending[i].stop = NULL;
	}
}

int supervised(int (*driver)(void *arg), void *arg)
{
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (!child) {
		/* Nobody would watch over it any more */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		status = driver(arg);
		stop_all();
		_exit(status);
	}
	status = wait_for(child);
	stop_all();
	return status;
}

/*
 * PCI
 */

static int pci_file(const struct pci_device *pci, const char *file, int flags)
{
	char path[96];

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", pci->name, file);
	return open(path, flags | O_CLOEXEC);
}

static bool pci_put(const struct pci_device *pci, const char *file,
		    const char *text)
{
	int fd = pci_file(pci, file, O_WRONLY);
	ssize_t length = strlen(text);
	bool done = write(fd, text, length) == length;

	close(fd);
	return done;
}

static unsigned long pci_number(const struct pci_device *pci, const char *file)
{
	int fd = pci_file(pci, file, O_RDONLY);
	char text[16] = "";

	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	return strtoul(text, NULL, 16);
}

/* No DMA is to outlive whoever asked for it */
static void pci_stop(void *pci)
{
	pci_bus_master(pci, false);
}

/* The first one of a kind */
bool pci_open(struct pci_device *pci, uint16_t vendor, uint16_t device)
{
	DIR *dir = opendir(PCI_DEVICES);
	struct dirent *entry;
	bool found = false;

	memset(pci, 0, sizeof(*pci));
	while (dir && !found && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(pci->name, sizeof(pci->name), "%.15s", entry->d_name);
		found = pci_number(pci, "vendor") == vendor &&
			pci_number(pci, "device") == device;
	}
	if (dir)
		closedir(dir);
	pci->config = found ? pci_file(pci, "config", O_RDWR) : -1;
	if (pci->config < 0)
		return false;
	pci_write(pci, PCI_COMMAND,
		  pci_read(pci, PCI_COMMAND, 2) | PCI_COMMAND_SPACES,
		  2);
	tell("PCI device %s of %04x:%04x", pci->name, vendor, device);
	stop_at_end(pci_stop, pci);
	return true;
}

void pci_close(struct pci_device *pci)
{
	if (pci->config < 0)
		return;
	stop_now(pci);
	for (int i = 0; i < PCI_STD_NUM_BARS; i++)
		if (pci->bar[i])
			munmap((void *)pci->bar[i], pci->bar_size[i]);
	close(pci->config);
	pci->config = -1;
}

volatile void *pci_map(struct pci_device *pci, int bar)
{
	char file[16];
	struct stat stat;
	void *addr;
	int fd;

	/* Two drivers are one too many */
	fd = pci_file(pci, "driver/uevent", O_WRONLY);
	if (fd >= 0) {
		close(fd);
		return NULL;
	}
	snprintf(file, sizeof(file), "resource%d", bar);
	fd = pci_file(pci, file, O_RDWR);
	if (fd < 0 || fstat(fd, &stat))
		return NULL;
	addr = mmap(NULL, stat.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    0);
	close(fd);
	if (addr == MAP_FAILED)
		return NULL;
	pci->bar[bar] = addr;
	pci->bar_size[bar] = stat.st_size;
	return addr;
}

uint32_t pci_read(const struct pci_device *pci, int offset, int size)
{
	uint32_t value = 0;

	return pread(pci->config, &value, size, offset) == size ? value :
								   UINT32_MAX;
}

void pci_write(const struct pci_device *pci, int offset, uint32_t value,
	       int size)
{
	/* What cannot be written is seen by what the device does not do */
	(void)!pwrite(pci->config, &value, size, offset);
}

void pci_bus_master(const struct pci_device *pci, bool on)
{
	uint32_t command = pci_read(pci, PCI_COMMAND, 2);

	/* Of a device that is gone */
	if (command == UINT32_MAX)
		return;
	if (on)
		command |= PCI_COMMAND_MASTER;
	else
		command &= ~PCI_COMMAND_MASTER;
	pci_write(pci, PCI_COMMAND, command, 2);
}

/* Has the kernel's @driver take the device, or none where that is "" */
bool pci_bind(const struct pci_device *pci, const char *driver)
{
	char path[64];
	int fd;

	pci_put(pci, "driver/unbind", pci->name);
	if (!pci_put(pci, "driver_override", *driver ? driver : "\n"))
		return false;
	if (!*driver)
		return true;
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/bind", driver);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (write(fd, pci->name, strlen(pci->name)) < 0) {
		close(fd);
		return false;
	}
	close(fd);
	return true;
}

/*
 * Time and contents
 */

uint64_t milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

/* Knuth's multiplicative hash of the place */
static uint8_t pattern(size_t at, unsigned int seed)
{
	return ((uint32_t)(at + seed * 4099U) * 2654435761U) >> 24;
}

void fill_pattern(void *addr, size_t length, unsigned int seed)
{
	uint8_t *byte = addr;

	for (size_t at = 0; at < length; at++)
		byte[at] = pattern(at, seed);
}

size_t pattern_differs(const void *addr, size_t length, unsigned int seed)
{
	const uint8_t *byte = addr;
	size_t nr = 0;

	for (size_t at = 0; at < length; at++)
		nr += byte[at] != pattern(at, seed);
	return nr;
}

bool save(const char *variable, const void *addr, size_t length)
{
	const char *path = getenv(variable);
	bool done;
	int fd;

	if (!path)
		return true;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	done = write(fd, addr, length) == (ssize_t)length;
	close(fd);
	return done;
}
