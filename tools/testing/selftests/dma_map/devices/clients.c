// SPDX-License-Identifier: GPL-2.0-only
/*
 * What of the kernel takes memory of the user takes that of dma_map() as well:
 * direct I/O, io_uring, pipes, sockets, other processes.  Each test moves data
 * and compares it.  The disk, whose contents are changed, is what the variable
 * DMA_MAP_DISK names.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../../kselftest_harness.h"
#include "device.h"

#define LENGTH		(4 * MIB)

/*
 * A disk
 */

FIXTURE(disk)
{
	struct dma_buffer buf;
	int direct;
	uint8_t *plain;		/* the same by way of the page cache */
};

static bool read_plain(const char *path, void *addr)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t at = 0;
	ssize_t got;

	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	while (at < LENGTH && (got = read(fd, addr + at, LENGTH - at)) > 0)
		at += got;
	close(fd);
	return at == LENGTH;
}

FIXTURE_SETUP(disk)
{
	const char *path = getenv("DMA_MAP_DISK");

	ASSERT_NE(NULL, path) TH_LOG("DMA_MAP_DISK is to name a disk");
	self->direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, self->direct) TH_LOG("%s: %s", path, strerror(errno));
	self->plain = malloc(LENGTH);
	ASSERT_NE(NULL, self->plain);
	ASSERT_TRUE(read_plain(path, self->plain));
	ASSERT_TRUE(dma_buffer_get(&self->buf, LENGTH, MAP_SHARED));
}

FIXTURE_TEARDOWN(disk)
{
	close(self->direct);
	dma_buffer_put(&self->buf);
	free(self->plain);
}

TEST_F(disk, direct_read_fills_the_buffer)
{
	ASSERT_EQ(LENGTH, pread(self->direct, self->buf.addr, LENGTH, 0));
	EXPECT_EQ(0, memcmp(self->plain, self->buf.addr, LENGTH));
	EXPECT_TRUE(save("DMA_MAP_READ", self->buf.addr, LENGTH));
}

#define PIECE		(128 * KIB)

static int queue_piece(struct io_uring *ring, const struct dma_buffer *buf,
		       int fd, size_t at, bool to_disk)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		return -EBUSY;
	if (to_disk)
		io_uring_prep_write_fixed(sqe, fd, buf->addr + at, PIECE, at,
					  0);
	else
		io_uring_prep_read_fixed(sqe, fd, buf->addr + at, PIECE, at, 0);
	return 0;
}

/* The whole buffer at once, as a fixed one */
static int transfer_fixed(const struct dma_buffer *buf, int fd, bool to_disk)
{
	struct iovec vec = { .iov_base = buf->addr, .iov_len = buf->length };
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	int error = io_uring_queue_init(LENGTH / PIECE, &ring, 0);

	if (error)
		return error;
	error = io_uring_register_buffers(&ring, &vec, 1);
	for (size_t at = 0; at < LENGTH && !error; at += PIECE)
		error = queue_piece(&ring, buf, fd, at, to_disk);
	if (!error && io_uring_submit(&ring) != LENGTH / PIECE)
		error = -EIO;
	for (size_t at = 0; at < LENGTH && !error; at += PIECE) {
		error = io_uring_wait_cqe(&ring, &cqe);
		if (!error && cqe->res != PIECE)
			error = cqe->res < 0 ? cqe->res : -EIO;
		if (!error)
			io_uring_cqe_seen(&ring, cqe);
	}
	io_uring_queue_exit(&ring);
	return error;
}

TEST_F(disk, fixed_buffer_of_io_uring_is_read_into)
{
	ASSERT_EQ(0, transfer_fixed(&self->buf, self->direct, false));
	EXPECT_EQ(0, memcmp(self->plain, self->buf.addr, LENGTH));
}

/* Twice inverted is as before; after all it is inverted once */
TEST_F(disk, written_by_both_is_what_was_in_the_buffer)
{
	const char *path = getenv("DMA_MAP_DISK");
	uint8_t *byte = self->buf.addr;

	for (int i = 0; i < 3; i++) {
		for (size_t at = 0; at < LENGTH; at++)
			byte[at] = self->plain[at] ^ 0xff;
		if (i % 2) {
			ASSERT_EQ(0, transfer_fixed(&self->buf, self->direct,
						    true));
		} else {
			ASSERT_EQ(LENGTH, pwrite(self->direct, byte, LENGTH,
						 0));
		}
		ASSERT_TRUE(read_plain(path, self->plain));
		EXPECT_EQ(0, memcmp(self->plain, byte, LENGTH));
	}
}

/*
 * Pipes, sockets, other processes
 */

FIXTURE(other)
{
	struct dma_buffer buf;
	uint8_t *copy;
};

FIXTURE_SETUP(other)
{
	ASSERT_TRUE(dma_buffer_get(&self->buf, LENGTH, MAP_SHARED));
	fill_pattern(self->buf.addr, LENGTH, 1);
	self->copy = malloc(LENGTH);
	ASSERT_NE(NULL, self->copy);
}

FIXTURE_TEARDOWN(other)
{
	dma_buffer_put(&self->buf);
	free(self->copy);
}

/* Into a pipe without a copy, and from there into a file */
TEST_F(other, vmsplice_and_splice_take_it_to_a_file)
{
	char path[] = "/tmp/dma_map_XXXXXX";
	int file = mkstemp(path), ends[2];
	ssize_t there, gone;

	ASSERT_LE(0, file);
	unlink(path);
	ASSERT_EQ(0, pipe(ends));
	for (size_t at = 0; at < LENGTH; at += there) {
		struct iovec vec = {
			.iov_base = self->buf.addr + at,
			.iov_len = LENGTH - at,
		};

		there = vmsplice(ends[1], &vec, 1, SPLICE_F_NONBLOCK);
		ASSERT_LT(0, there);
		for (ssize_t left = there; left; left -= gone) {
			gone = splice(ends[0], NULL, file, NULL, left, 0);
			ASSERT_LT(0, gone);
		}
	}
	ASSERT_EQ(LENGTH, pread(file, self->copy, LENGTH, 0));
	EXPECT_EQ(0, pattern_differs(self->copy, LENGTH, 1));
	close(ends[0]);
	close(ends[1]);
	close(file);
}

static bool connect_pair(int pair[2])
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t length = sizeof(address);
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr *any = (struct sockaddr *)&address;

	pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listening, any, length) || listen(listening, 1) ||
	    getsockname(listening, any, &length) ||
	    connect(pair[0], any, length))
		return false;
	pair[1] = accept(listening, NULL, NULL);
	close(listening);
	return pair[1] >= 0;
}

/* Whether the kernel has told that it needs the memory of the send no more */
static bool told_done(int socket)
{
	struct pollfd poll_error = { .fd = socket };
	char control[128];
	struct msghdr message = {
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct sock_extended_err *error;
	struct cmsghdr *header;

	if (poll(&poll_error, 1, 5000) != 1 ||
	    recvmsg(socket, &message, MSG_ERRQUEUE) < 0)
		return false;
	header = CMSG_FIRSTHDR(&message);
	if (!header)
		return false;
	error = (struct sock_extended_err *)CMSG_DATA(header);
	return error->ee_origin == SO_EE_ORIGIN_ZEROCOPY && !error->ee_errno;
}

/* Over loopback the receiver gets a copy, made of the pinned pages */
TEST_F(other, zero_copy_send_takes_it_to_a_socket)
{
	const int on = 1;
	ssize_t sent, got;
	int pair[2];

	ASSERT_TRUE(connect_pair(pair)) TH_LOG("is lo up?");
	ASSERT_EQ(0, setsockopt(pair[0], SOL_SOCKET, SO_ZEROCOPY, &on,
				sizeof(on)));
	for (size_t at = 0; at < LENGTH; at += sent) {
		sent = send(pair[0], self->buf.addr + at,
			    LENGTH - at < PIECE ? LENGTH - at : PIECE,
			    MSG_ZEROCOPY);
		ASSERT_LT(0, sent);
		for (ssize_t have = 0; have < sent; have += got) {
			got = recv(pair[1], self->copy + at + have,
				   sent - have, 0);
			ASSERT_LT(0, got);
		}
		ASSERT_TRUE(told_done(pair[0]));
	}
	EXPECT_EQ(0, pattern_differs(self->copy, LENGTH, 1));
	close(pair[0]);
	close(pair[1]);
}

TEST_F(other, another_process_reads_and_writes_it)
{
	struct iovec own = { .iov_base = self->copy, .iov_len = LENGTH };
	struct iovec its = { .iov_base = self->buf.addr, .iov_len = LENGTH };
	pid_t parent = getpid(), child = fork();

	if (!child) {
		if (process_vm_readv(parent, &own, 1, &its, 1, 0) != LENGTH ||
		    pattern_differs(self->copy, LENGTH, 1))
			_exit(1);
		fill_pattern(self->copy, LENGTH, 2);
		_exit(process_vm_writev(parent, &own, 1, &its, 1, 0) !=
		      LENGTH);
	}
	EXPECT_EQ(0, wait_for(child));
	EXPECT_EQ(0, pattern_differs(self->buf.addr, LENGTH, 2));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
