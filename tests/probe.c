/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * iscsi-probe [--digest] URL COMMAND...: sends SCSI commands, one after the
 * other in one session, and prints what came back.  Nothing is tried again.
 *
 *	read:LBA:BLOCKS		write:LBA:BLOCKS:BYTE	sync	tur
 *	prout:ACTION:TYPE:KEY:ACTION-KEY	PERSISTENT RESERVE OUT, the keys in hex
 *	status=0 bytes=4096 underflow=0 first=a5 hash=...	(of a read)
 *	status=2 key=6 asc=2900					(with sense)
 *	lost: ...		the session ended
 *
 * Exit code 0 when all commands were answered, whatever the answer; 1 when
 * the session was lost or nothing came for three seconds.
 */

#include <err.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#define BLOCK 512
#define PATIENCE_MS 3000

struct answer {
	bool here;
	int status;
	struct scsi_task *task;
};

static void on_answer(struct iscsi_context *iscsi, int status, void *data, void *private)
{
	struct answer *a = private;

	a->here = true;
	a->status = status;
	if (!a->task)
		a->task = data;
}

static long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void lost(struct iscsi_context *iscsi, const char *why)
{
	printf("lost: %s\n", why ? why : iscsi_get_error(iscsi));
	exit(1);
}

static void wait_for(struct iscsi_context *iscsi, struct answer *a)
{
	long end = now_ms() + PATIENCE_MS;

	while (!a->here) {
		struct pollfd fd = { iscsi_get_fd(iscsi), (short)iscsi_which_events(iscsi), 0 };
		long left = end - now_ms();

		if (left <= 0)
			lost(iscsi, "no answer");
		if (poll(&fd, 1, (int)left) < 0)
			err(2, "poll");
		if (fd.revents && iscsi_service(iscsi, fd.revents) < 0)
			lost(iscsi, NULL);
	}
}

static uint64_t fnv1a(const uint8_t *p, size_t len)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3ULL;
	return h;
}

static void print_answer(const struct answer *a, bool is_read)
{
	const struct scsi_task *t = a->task;

	printf("status=%d", a->status);
	if (a->status == SCSI_STATUS_CHECK_CONDITION)
		printf(" key=%d asc=%04x", t->sense.key, t->sense.ascq);
	if (is_read && a->status == SCSI_STATUS_GOOD) {
		printf(" bytes=%d underflow=%zu", t->datain.size,
		       t->residual_status == SCSI_RESIDUAL_UNDERFLOW ? t->residual : 0);
		if (t->datain.size > 0)
			printf(" first=%02x hash=%016llx", t->datain.data[0],
			       (unsigned long long)fnv1a(t->datain.data,
							 (size_t)t->datain.size));
	}
	putchar('\n');
	fflush(stdout);
}

/* SPC-4 6.16, of the whole logical unit. */
static struct scsi_task *reserve_out(struct iscsi_context *iscsi, int lun, unsigned int action,
				     unsigned int type, uint64_t key, uint64_t action_key,
				     struct answer *a)
{
	static uint8_t param[24];
	unsigned char cdb[10] = { 0x5f, (unsigned char)action, (unsigned char)type };
	struct iscsi_data data = { .size = sizeof(param), .data = param };
	struct scsi_task *task;

	cdb[8] = sizeof(param);
	for (int i = 0; i < 8; i++) {
		param[i] = (uint8_t)(key >> (56 - 8 * i));
		param[8 + i] = (uint8_t)(action_key >> (56 - 8 * i));
	}
	task = scsi_create_task(sizeof(cdb), cdb, SCSI_XFER_WRITE, sizeof(param));
	if (task && iscsi_scsi_command_async(iscsi, lun, task, on_answer, &data, a) < 0)
		return NULL;
	return task;
}

static void run(struct iscsi_context *iscsi, int lun, const char *command)
{
	unsigned int action = 0, type = 0;
	unsigned long long key = 0, action_key = 0;
	unsigned int lba = 0, blocks = 0, byte = 0;
	struct answer a = { 0 };
	uint8_t *data = NULL;
	bool is_read = false;

	if (sscanf(command, "read:%u:%u", &lba, &blocks) == 2) {
		is_read = true;
		a.task = iscsi_read16_task(iscsi, lun, lba, blocks * BLOCK, BLOCK, 0, 0, 0, 0, 0,
					   on_answer, &a);
	} else if (sscanf(command, "write:%u:%u:%u", &lba, &blocks, &byte) == 3) {
		data = malloc(blocks * BLOCK);
		if (!data)
			err(2, "malloc");
		memset(data, (int)byte, blocks * BLOCK);
		a.task = iscsi_write16_task(iscsi, lun, lba, data, blocks * BLOCK, BLOCK, 0, 0, 0,
					    0, 0, on_answer, &a);
	} else if (sscanf(command, "prout:%u:%u:%llx:%llx", &action, &type, &key,
			  &action_key) == 4) {
		a.task = reserve_out(iscsi, lun, action, type, key, action_key, &a);
	} else if (!strcmp(command, "sync")) {
		a.task = iscsi_synchronizecache10_task(iscsi, lun, 0, 0, 0, 0, on_answer, &a);
	} else if (!strcmp(command, "tur")) {
		a.task = iscsi_testunitready_task(iscsi, lun, on_answer, &a);
	} else {
		errx(2, "%s: unknown command", command);
	}
	if (!a.task)
		lost(iscsi, NULL);
	wait_for(iscsi, &a);
	if (a.status == SCSI_STATUS_CANCELLED || a.status == SCSI_STATUS_ERROR)
		lost(iscsi, NULL);
	print_answer(&a, is_read);
	scsi_free_scsi_task(a.task);
	free(data);
}

int main(int argc, char **argv)
{
	struct iscsi_context *iscsi = iscsi_create_context("iqn.2026-01.org.lunfs.test:probe");
	struct answer login = { 0 };
	struct iscsi_url *url;
	bool digest = argc > 1 && !strcmp(argv[1], "--digest");

	argv += digest;
	argc -= digest;
	if (argc < 2 || !iscsi)
		errx(2, "usage: iscsi-probe [--digest] URL COMMAND...");
	url = iscsi_parse_full_url(iscsi, argv[1]);
	if (!url)
		errx(2, "%s", iscsi_get_error(iscsi));
	iscsi_set_noautoreconnect(iscsi, 1);
	iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
	iscsi_set_targetname(iscsi, url->target);
	iscsi_set_header_digest(iscsi, digest ? ISCSI_HEADER_DIGEST_CRC32C :
						ISCSI_HEADER_DIGEST_NONE);
	/* Its own TEST UNIT READY eats the unit attention of the login. */
	if (iscsi_full_connect_async(iscsi, url->portal, url->lun, on_answer, &login))
		lost(iscsi, NULL);
	login.task = NULL;
	wait_for(iscsi, &login);
	if (login.status)
		lost(iscsi, NULL);
	for (int i = 2; i < argc; i++)
		run(iscsi, url->lun, argv[i]);
	iscsi_destroy_url(url);
	iscsi_destroy_context(iscsi);
	return 0;
}
