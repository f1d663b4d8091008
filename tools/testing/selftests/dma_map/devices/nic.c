// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver for an Intel network card: its rings of descriptors and the packets
 * are memory of dma_map().  Asks by ARP who has an address, and pings it.
 *
 * Sections ("SDM") are those of the PCI/PCI-X Family of Gigabit Ethernet
 * Controllers Software Developer's Manual (Intel 317453, 8254x).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kselftest_harness.h"
#include "device.h"

/* SDM 5.2: 82540EM */
#define NIC_VENDOR	0x8086
#define NIC_DEVICE	0x100e

/* SDM 13.4: registers */
#define NIC_CTRL	0x0000
#define NIC_STATUS	0x0008
#define NIC_IMC		0x00d8	/* interrupts that are not to be */
#define NIC_RCTL	0x0100
#define NIC_TCTL	0x0400
#define NIC_TIPG	0x0410
#define NIC_RX_RING	0x2800
#define NIC_TX_RING	0x3800
#define NIC_MTA		0x5200	/* multicast, 128 words */
#define NIC_RAL		0x5400	/* its own address */
#define NIC_RAH		0x5404

/* Of a ring, from its first register on */
#define RING_BASE_LOW	0x00
#define RING_BASE_HIGH	0x04
#define RING_LENGTH	0x08	/* bytes */
#define RING_HEAD	0x10
#define RING_TAIL	0x18

#define CTRL_LINK_UP	0x00000040
#define CTRL_RESET	0x04000000
#define STATUS_LINK_UP	0x00000002
#define RCTL_ENABLE	0x00000002
#define RCTL_BROADCAST	0x00008000
#define RCTL_NO_CRC	0x04000000
#define TCTL_ENABLE	0x00000002
#define TCTL_PAD	0x00000008
#define TCTL_COLLISIONS	0x000400f0	/* 15 tries, 64 bytes apart (full duplex) */
#define TIPG_COPPER	0x00602008	/* gaps between packets, SDM 13.4.34 */

#define TX_END		0x01	/* the packet ends here, */
#define TX_CRC		0x02	/* is to have a checksum, */
#define TX_REPORT	0x08	/* and DONE is to be told */
#define DONE		0x01

#define RING		16	/* descriptors, each with a buffer of 2 KiB */
#define BUFFER		2048
#define PATIENCE	5000	/* ms */

/* SDM 3.2.3; for packets that go out, SDM 3.3.3, command is part of checksum */
struct nic_descriptor {
	uint64_t address;
	uint16_t length;
	uint8_t offset;
	uint8_t command;
	uint8_t status;
	uint8_t errors;
	uint16_t special;
};

struct nic_ring {
	volatile struct nic_descriptor *descriptor;
	size_t buffers;		/* where in the memory */
	unsigned int next;
};

struct nic {
	struct pci_device pci;
	volatile void *regs;
	struct dma_buffer memory;
	struct nic_ring rx, tx;
	uint8_t mac[ETH_ALEN];
};

/* The first page of the memory is both rings, the rest are the buffers */
#define MEMORY		(PAGE_SIZE + 2 * RING * BUFFER)
#define RX_DESCRIPTORS	0
#define TX_DESCRIPTORS	(RING * sizeof(struct nic_descriptor))
#define RX_BUFFERS	PAGE_SIZE
#define TX_BUFFERS	(PAGE_SIZE + RING * BUFFER)

static void nic_set_ring(struct nic *nic, size_t regs, struct nic_ring *ring,
			 size_t descriptors, size_t buffers)
{
	uint64_t address = dma_address(&nic->memory, descriptors);

	ring->descriptor = nic->memory.addr + descriptors;
	ring->buffers = buffers;
	ring->next = 0;
	for (size_t i = 0; i < RING; i++)
		ring->descriptor[i].address =
			dma_address(&nic->memory, buffers + i * BUFFER);
	write32(nic->regs, regs + RING_BASE_LOW, address);
	write32(nic->regs, regs + RING_BASE_HIGH, address >> 32);
	write32(nic->regs, regs + RING_LENGTH,
		RING * sizeof(struct nic_descriptor));
	write32(nic->regs, regs + RING_HEAD, 0);
	write32(nic->regs, regs + RING_TAIL, 0);
}

static void nic_read_mac(struct nic *nic)
{
	uint32_t low = read32(nic->regs, NIC_RAL);
	uint32_t high = read32(nic->regs, NIC_RAH);

	memcpy(nic->mac, &low, 4);
	memcpy(nic->mac + 4, &high, 2);
}

static void nic_stop(const struct nic *nic)
{
	write32(nic->regs, NIC_RCTL, 0);
	write32(nic->regs, NIC_TCTL, 0);
	write32(nic->regs, NIC_CTRL, CTRL_RESET);
}

/* SDM 14.3 to 14.5: initialization */
static int nic_start(struct nic *nic)
{
	nic_stop(nic);
	if (!wait_until(!(read32(nic->regs, NIC_CTRL) & CTRL_RESET), PATIENCE))
		return -ETIMEDOUT;
	write32(nic->regs, NIC_IMC, ~0U);
	write32(nic->regs, NIC_CTRL, CTRL_LINK_UP);
	for (size_t i = 0; i < 128; i++)
		write32(nic->regs, NIC_MTA + 4 * i, 0);
	nic_read_mac(nic);

	nic_set_ring(nic, NIC_RX_RING, &nic->rx, RX_DESCRIPTORS, RX_BUFFERS);
	nic_set_ring(nic, NIC_TX_RING, &nic->tx, TX_DESCRIPTORS, TX_BUFFERS);
	pci_bus_master(&nic->pci, true);
	write32(nic->regs, NIC_RCTL, RCTL_ENABLE | RCTL_BROADCAST |
		RCTL_NO_CRC);
	write32(nic->regs, NIC_TIPG, TIPG_COPPER);
	write32(nic->regs, NIC_TCTL, TCTL_ENABLE | TCTL_PAD | TCTL_COLLISIONS);
	/* All but one: a tail at the head is a ring without any */
	write32(nic->regs, NIC_RX_RING + RING_TAIL, RING - 1);
	if (!wait_until(read32(nic->regs, NIC_STATUS) & STATUS_LINK_UP,
			PATIENCE))
		return -ENETDOWN;
	return 0;
}

/* What comes in is written to memory until the card is told not to */
static void nic_close(struct nic *nic)
{
	if (nic->regs)
		nic_stop(nic);
	pci_close(&nic->pci);
	dma_buffer_put(&nic->memory);
}

static int nic_open(struct nic *nic)
{
	/* 82544 Specification Update, erratum 23: nothing is to cross 64 KiB */
	struct dma_constraints demands = { .boundary = 64 * KIB };
	int error;

	memset(nic, 0, sizeof(*nic));
	if (!pci_open(&nic->pci, NIC_VENDOR, NIC_DEVICE))
		return -ENODEV;
	nic->regs = pci_map(&nic->pci, 0);
	if (!nic->regs)
		return -EBUSY;
	if (!dma_buffer_get_for(&nic->memory, MEMORY, MAP_SHARED, &demands))
		return -errno;
	error = nic_start(nic);
	if (error)
		nic_close(nic);
	return error;
}

static int nic_send(struct nic *nic, const void *packet, size_t length)
{
	struct nic_ring *tx = &nic->tx;
	volatile struct nic_descriptor *descriptor = &tx->descriptor[tx->next];

	memcpy(nic->memory.addr + tx->buffers + tx->next * BUFFER, packet,
	       length);
	tell("descriptor %u to send: %zu bytes at 0x%08llx", tx->next, length,
	     (unsigned long long)descriptor->address);
	descriptor->length = length;
	descriptor->command = TX_END | TX_CRC | TX_REPORT;
	descriptor->status = 0;
	tx->next = (tx->next + 1) % RING;
	dma_wmb();
	write32(nic->regs, NIC_TX_RING + RING_TAIL, tx->next);
	return wait_until(descriptor->status & DONE, PATIENCE) ? 0 : -ETIMEDOUT;
}

/* The next packet that comes in, or 0 when there is none for so long */
static size_t nic_receive(struct nic *nic, void *packet)
{
	struct nic_ring *rx = &nic->rx;
	volatile struct nic_descriptor *descriptor = &rx->descriptor[rx->next];
	size_t at = rx->buffers + rx->next * BUFFER, length;

	if (!wait_until(descriptor->status & DONE, PATIENCE))
		return 0;
	dma_rmb();
	length = descriptor->length;
	tell("descriptor %u has received %zu bytes", rx->next, length);
	tell_bytes("came back", &nic->memory, at);
	memcpy(packet, nic->memory.addr + at, length);
	descriptor->status = 0;
	dma_wmb();
	write32(nic->regs, NIC_RX_RING + RING_TAIL, rx->next);
	rx->next = (rx->next + 1) % RING;
	return length;
}

/*
 * Packets
 */

/* QEMU's user network, docs/system/devices/net.rst */
#define OWN_ADDRESS	"10.0.2.15"
#define PEER_ADDRESS	"10.0.2.2"

struct arp_packet {
	struct ether_header ether;
	struct ether_arp arp;
};

#define PING_DATA	1400

struct ping_packet {
	uint16_t aligns_ip;
	struct ether_header ether;
	struct iphdr ip;
	struct icmphdr icmp;
	uint8_t data[PING_DATA];
};

#define PING_LENGTH	(sizeof(struct ping_packet) - sizeof(uint16_t))

/* RFC 1071 */
static uint16_t checksum(const void *data, size_t length)
{
	const uint8_t *byte = data;
	uint32_t sum = 0;

	for (size_t i = 0; i < length; i += 2)
		sum += byte[i] | byte[i + 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* RFC 826 */
static void make_arp(const struct nic *nic, struct arp_packet *packet)
{
	in_addr_t own = inet_addr(OWN_ADDRESS), peer = inet_addr(PEER_ADDRESS);

	memset(packet, 0, sizeof(*packet));
	memset(packet->ether.ether_dhost, 0xff, ETH_ALEN);
	memcpy(packet->ether.ether_shost, nic->mac, ETH_ALEN);
	packet->ether.ether_type = htons(ETHERTYPE_ARP);
	packet->arp.arp_hrd = htons(ARPHRD_ETHER);
	packet->arp.arp_pro = htons(ETHERTYPE_IP);
	packet->arp.arp_hln = ETH_ALEN;
	packet->arp.arp_pln = sizeof(own);
	packet->arp.arp_op = htons(ARPOP_REQUEST);
	memcpy(packet->arp.arp_sha, nic->mac, ETH_ALEN);
	memcpy(packet->arp.arp_spa, &own, sizeof(own));
	memcpy(packet->arp.arp_tpa, &peer, sizeof(peer));
}

/* RFC 792 */
static void make_ping(const struct nic *nic, const uint8_t *peer,
		      uint16_t sequence, struct ping_packet *packet)
{
	memset(packet, 0, sizeof(*packet));
	memcpy(packet->ether.ether_dhost, peer, ETH_ALEN);
	memcpy(packet->ether.ether_shost, nic->mac, ETH_ALEN);
	packet->ether.ether_type = htons(ETHERTYPE_IP);
	packet->ip.version = 4;
	packet->ip.ihl = 5;
	packet->ip.tot_len = htons(PING_LENGTH - sizeof(packet->ether));
	packet->ip.ttl = 64;
	packet->ip.protocol = IPPROTO_ICMP;
	packet->ip.saddr = inet_addr(OWN_ADDRESS);
	packet->ip.daddr = inet_addr(PEER_ADDRESS);
	packet->ip.check = checksum(&packet->ip, sizeof(packet->ip));
	packet->icmp.type = ICMP_ECHO;
	packet->icmp.un.echo.id = htons(1998);
	packet->icmp.un.echo.sequence = htons(sequence);
	fill_pattern(packet->data, PING_DATA, sequence);
	packet->icmp.checksum = checksum(&packet->icmp, sizeof(packet->icmp) +
					 PING_DATA);
}

/* Asks for the address of the peer's card */
static int find_peer(struct nic *nic, uint8_t *peer)
{
	struct arp_packet packet;
	uint8_t answer[BUFFER];
	in_addr_t address = inet_addr(PEER_ADDRESS);
	int error;

	make_arp(nic, &packet);
	error = nic_send(nic, &packet, sizeof(packet));
	while (!error) {
		if (!nic_receive(nic, answer))
			return -ETIMEDOUT;
		memcpy(&packet, answer, sizeof(packet));
		if (packet.ether.ether_type == htons(ETHERTYPE_ARP) &&
		    packet.arp.arp_op == htons(ARPOP_REPLY) &&
		    !memcmp(packet.arp.arp_spa, &address, sizeof(address)))
			break;
	}
	memcpy(peer, packet.arp.arp_sha, ETH_ALEN);
	return error;
}

/* Whether what it sends comes back as it was */
static int ping(struct nic *nic, const uint8_t *peer, uint16_t sequence)
{
	struct ping_packet packet;
	uint8_t answer[BUFFER];
	int error;

	make_ping(nic, peer, sequence, &packet);
	error = nic_send(nic, &packet.ether, PING_LENGTH);
	while (!error) {
		if (!nic_receive(nic, answer))
			return -ETIMEDOUT;
		memcpy(&packet.ether, answer, PING_LENGTH);
		if (packet.ether.ether_type == htons(ETHERTYPE_IP) &&
		    packet.ip.protocol == IPPROTO_ICMP &&
		    packet.icmp.type == ICMP_ECHOREPLY &&
		    packet.icmp.un.echo.sequence == htons(sequence))
			break;
	}
	return error ?: pattern_differs(packet.data, PING_DATA, sequence) ?
			-EBADMSG : 0;
}

/*
 * The tests
 */

FIXTURE(nic)
{
	struct nic nic;
	uint8_t peer[ETH_ALEN];
};

FIXTURE_SETUP(nic)
{
	ASSERT_EQ(0, nic_open(&self->nic)) TH_LOG("is there an e1000?");
}

FIXTURE_TEARDOWN(nic)
{
	nic_close(&self->nic);
}

TEST_F(nic, arp_is_answered)
{
	ASSERT_EQ(0, find_peer(&self->nic, self->peer));
	ksft_print_msg(PEER_ADDRESS " is at %02x:%02x:%02x:%02x:%02x:%02x\n",
		       self->peer[0], self->peer[1], self->peer[2],
		       self->peer[3], self->peer[4], self->peer[5]);
}

/* More often than there are descriptors, so that each is used again */
TEST_F(nic, pings_come_back)
{
	ASSERT_EQ(0, find_peer(&self->nic, self->peer));
	for (int i = 1; i <= 4 * RING; i++)
		ASSERT_EQ(0, ping(&self->nic, self->peer, i));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
