/* SPDX-License-Identifier: BSD-2-Clause */

/* iscsi_request.c over a session that is simulated: the commands it sends end
 * in the disk below, in the order of their sending. */

#include "engine/iscsi_session.h"

#include <errno.h>

#include "tests/unit.h"

enum { BS = 512, BLOCKS = 4096, SENSE_LEN = 18 };

static struct {
	bool bad[BLOCKS];
	bool information; /* medium errors name the block */
	int wrong_hints;  /* so many name another one first */
	uint64_t wrong_hint;
	bool mapped[BLOCKS];
	uint8_t data[BLOCKS * BS];
	bool dirty; /* written since the last flush */

	/* What it knows of. */
	bool write_same_unmap, write_same, unmap, lba_status, sync16, sync10, fua;
	/* What it does with the next commands: sense, or a status, or an underflow. */
	unsigned n_faults;
	uint8_t status, key, asc, ascq;
	unsigned n_short;
	size_t lba_status_len; /* 0: as much as was asked for */

	unsigned n_commands, n_checks, n_reads;
	uint64_t now_ns;
} disk;

static struct iscsi_session session;
static struct iscsi_cmd command;
static struct iscsi_cmd *to_send; /* sent, not yet run */
static int answered;		  /* with this; 1 = not yet */

/* The session's functions. */

uint64_t loop_now(const struct loop *loop)
{
	(void)loop;
	return disk.now_ns;
}

void iscsi_cmd_send(struct iscsi_cmd *cmd)
{
	ck_assert_ptr_null(to_send);
	to_send = cmd;
}

void iscsi_cmd_send_later(struct iscsi_cmd *cmd, uint64_t delay_ns)
{
	disk.now_ns += delay_ns;
	iscsi_cmd_send(cmd);
}

void iscsi_cmd_put(struct iscsi_cmd *cmd)
{
	cmd->req = NULL;
}

const uint8_t *iscsi_cmd_data(const struct iscsi_cmd *cmd, size_t *ret_len)
{
	*ret_len = (size_t)cmd->task->datain.size;
	return cmd->task->datain.data;
}

void iscsi_session_answer(struct iscsi_session *s, struct bd_req *req, int error)
{
	(void)s;
	req->done(req, error);
}

void iscsi_session_check(struct iscsi_session *s)
{
	(void)s;
	disk.n_checks++;
}

uint64_t iscsi_session_random(struct iscsi_session *s, uint64_t limit)
{
	(void)s;
	return limit / 2;
}

/* The disk's commands. */

static uint64_t be(const uint8_t *p, int n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | *p++;
	return v;
}

static void set_sense(uint8_t sense[SENSE_LEN], uint8_t key, uint8_t asc, uint8_t ascq)
{
	memset(sense, 0, SENSE_LEN);
	sense[0] = 0x70;
	sense[2] = key;
	sense[7] = 10;
	sense[12] = asc;
	sense[13] = ascq;
}

static uint8_t refuse_command(uint8_t sense[SENSE_LEN])
{
	set_sense(sense, 5, 0x20, 0);
	return SCSI_CHECK_CONDITION;
}

static uint8_t disk_read(struct iscsi_cmd *cmd, uint64_t lba, uint64_t n, uint8_t *sense)
{
	disk.n_reads++;
	for (uint64_t i = lba; i < lba + n; i++) {
		if (!disk.bad[i])
			continue;
		set_sense(sense, 3, 0x11, 0);
		if (disk.information) {
			uint64_t named = disk.wrong_hints-- > 0 ? disk.wrong_hint : i;

			sense[0] |= 0x80;
			sense[5] = (uint8_t)(named >> 8);
			sense[6] = (uint8_t)named;
		}
		return SCSI_CHECK_CONDITION;
	}
	memcpy(cmd->data, disk.data + lba * BS, n * BS);
	return SCSI_GOOD;
}

static uint8_t disk_lba_status(struct iscsi_cmd *cmd, uint64_t lba, uint8_t *sense)
{
	size_t max = disk.lba_status_len ? disk.lba_status_len : cmd->scsi.length;
	uint8_t *d = calloc(1, cmd->scsi.length);
	size_t len = 8;

	cmd->task->datain.data = d;
	if (!disk.lba_status)
		return refuse_command(sense);
	while (lba < BLOCKS && len + 16 <= max) {
		uint64_t end = lba;

		while (end < BLOCKS && disk.mapped[end] == disk.mapped[lba])
			end++;
		d[len + 6] = (uint8_t)(lba >> 8);
		d[len + 7] = (uint8_t)lba;
		d[len + 10] = (uint8_t)((end - lba) >> 8);
		d[len + 11] = (uint8_t)(end - lba);
		d[len + 12] = disk.mapped[lba] ? 0 : lba & 1 ? 2 : 1;
		len += 16;
		lba = end;
	}
	d[2] = (uint8_t)((len - 4) >> 8);
	d[3] = (uint8_t)(len - 4);
	cmd->task->datain.size = (int)len;
	return SCSI_GOOD;
}

static uint8_t run_cdb(struct iscsi_cmd *cmd, uint8_t sense[SENSE_LEN])
{
	const uint8_t *cdb = cmd->scsi.cdb;
	uint64_t lba = be(cdb + 2, 8), n = be(cdb + 10, 4);

	switch (cdb[0]) {
	case 0x88:
		return disk_read(cmd, lba, n, sense);
	case 0x8a:
		if ((cdb[1] & 8) && !disk.fua)
			return refuse_command(sense);
		memcpy(disk.data + lba * BS, cmd->data, n * BS);
		disk.dirty = !(cdb[1] & 8);
		return SCSI_GOOD;
	case 0x93:
		if (cdb[1] & 8 ? !disk.write_same_unmap : !disk.write_same)
			return refuse_command(sense);
		memset(disk.data + lba * BS, *(const uint8_t *)cmd->data, n * BS);
		memset(disk.mapped + lba, !(cdb[1] & 8), n);
		disk.dirty = true;
		return SCSI_GOOD;
	case 0x42:
		if (!disk.unmap)
			return refuse_command(sense);
		lba = be((uint8_t *)cmd->data + 8, 8);
		memset(disk.mapped + lba, 0, be((uint8_t *)cmd->data + 16, 4));
		return SCSI_GOOD;
	case 0x91:
	case 0x35:
		if (cdb[0] == 0x91 ? !disk.sync16 : !disk.sync10)
			return refuse_command(sense);
		disk.dirty = false;
		return SCSI_GOOD;
	case 0x9e:
		return disk_lba_status(cmd, lba, sense);
	default:
		ck_abort_msg("operation code 0x%02x", cdb[0]);
	}
}

static void run_command(struct iscsi_cmd *cmd)
{
	struct scsi_task task = { .residual_status = SCSI_RESIDUAL_NO_RESIDUAL };
	uint8_t sense[SENSE_LEN] = { 0 };
	struct scsi_outcome outcome;
	uint8_t status;

	disk.n_commands++;
	cmd->task = &task;
	if (disk.n_faults > 0) {
		disk.n_faults--;
		status = disk.status;
		set_sense(sense, disk.key, disk.asc, disk.ascq);
	} else {
		status = run_cdb(cmd, sense);
	}
	if (disk.n_short > 0) {
		disk.n_short--;
		task.residual_status = SCSI_RESIDUAL_UNDERFLOW;
	}
	scsi_judge(status, sense, sizeof(sense), &outcome);
	cmd->answered(cmd, &outcome);
	free(task.datain.data);
}

static void on_done(struct bd_req *req, int error)
{
	(void)req;
	ck_assert_int_eq(answered, 1);
	answered = error;
}

static void reset(void)
{
	memset(&disk, 0, sizeof(disk));
	memset(&session, 0, sizeof(session));
	disk.information = disk.write_same_unmap = disk.write_same = disk.unmap =
		disk.lba_status = disk.sync16 = disk.sync10 = disk.fua = true;
	for (unsigned i = 0; i < sizeof(disk.data); i++)
		disk.data[i] = (uint8_t)(i / BS + i % 7);
	session.disk.info = (struct bd_info){
		.size = BLOCKS * BS, .block_size = BS, .thin = true, .write_cache = true
	};
	session.disk.provisioning =
		(struct scsi_provisioning){ .unmap = true, .write_same = true };
	session.disk.zeros = true;
	session.disk.fua = true;
	command.session = &session;
}

static int run(struct bd_req *req)
{
	answered = 1;
	req->done = on_done;
	iscsi_request_start(&command, req);
	while (to_send) {
		struct iscsi_cmd *cmd = to_send;

		to_send = NULL;
		run_command(cmd);
	}
	ck_assert_int_ne(answered, 1);
	return answered;
}

static uint8_t buffer[BLOCKS * BS];

static int run_range(enum bd_op op, uint64_t lba, uint64_t n, unsigned flags)
{
	struct bd_req req = { .op = op,
			      .offset = lba * BS,
			      .length = n * BS,
			      .buf = buffer,
			      .flags = flags };

	return run(&req);
}

START_TEST(a_read_is_one_command)
{
	reset();
	ck_assert_int_eq(run_range(BD_READ, 100, 512, 0), 0);
	ck_assert_mem_eq(buffer, disk.data + 100 * BS, 512 * BS);
	ck_assert_uint_eq(disk.n_commands, 1);
}
END_TEST

static void ck_bad(uint64_t lba, uint64_t n, uint64_t bad, uint64_t n_bad)
{
	struct bd_req req = {
		.op = BD_READ, .offset = lba * BS, .length = n * BS, .buf = buffer
	};

	ck_assert_int_eq(run(&req), -ENODATA);
	ck_assert_uint_eq(req.bad_offset, bad * BS);
	ck_assert_uint_eq(req.bad_length, n_bad * BS);
}

START_TEST(bad_blocks_are_narrowed_down)
{
	for (int information = 0; information < 2; information++) {
		static const struct {
			unsigned first, n;
		} rows[] = { { 0, 1 },	 { 1, 1 },   { 511, 1 },
			     { 300, 3 }, { 510, 2 }, { 256, 64 } };

		for (size_t i = 0; i < ROWS(rows); i++) {
			reset();
			disk.information = information;
			memset(disk.bad + 100 + rows[i].first, 1, rows[i].n);
			ck_bad(100, 512, 100 + rows[i].first, rows[i].n);
			/* one read for each halving and each block of the run */
			ck_assert_uint_le(disk.n_reads, 12 + rows[i].n);
			if (information)
				ck_assert_uint_le(disk.n_reads, 4 + rows[i].n);
		}
	}
}
END_TEST

START_TEST(the_first_of_several_bad_ranges_is_reported)
{
	reset();
	disk.information = false;
	disk.bad[900] = disk.bad[1000] = disk.bad[1001] = true;
	ck_bad(512, 1024, 900, 1);
	ck_bad(901, 600, 1000, 2);
	/* a long run comes in parts */
	memset(disk.bad + 2000, 1, 100);
	ck_bad(2000, 100, 2000, 64);
	ck_bad(2064, 36, 2064, 36);
}
END_TEST

START_TEST(a_hint_that_is_wrong_does_no_harm)
{
	struct unit_random random = unit_random_start("check_iscsi_request");

	for (int i = 0; i < 300; i++) {
		unsigned bad = (unsigned)unit_random_below(&random, 512);

		reset();
		disk.bad[bad] = true;
		disk.wrong_hints = 1 + (int)unit_random_below(&random, 8);
		disk.wrong_hint = unit_random_below(&random, 600);
		ck_bad(0, 512, bad, 1);
	}
}
END_TEST

START_TEST(a_fault_that_passes_is_read_again)
{
	reset();
	disk.n_faults = 1;
	disk.status = SCSI_CHECK_CONDITION;
	disk.key = 3;
	disk.asc = 0x11;
	ck_assert_int_eq(run_range(BD_READ, 0, 64, 0), 0);
	ck_assert_mem_eq(buffer, disk.data, 64 * BS);
}
END_TEST

START_TEST(a_short_read_is_no_read)
{
	reset();
	disk.n_short = 1;
	ck_assert_int_eq(run_range(BD_READ, 0, 64, 0), -EIO);
	disk.n_short = 1;
	ck_assert_int_eq(run_range(BD_WRITE, 0, 64, 0), -EIO);
}
END_TEST

START_TEST(what_passes_is_sent_again_and_what_does_not_ends)
{
	static const struct {
		const char *name;
		uint8_t status, key, asc, ascq;
		unsigned n;
		int error;
	} rows[] = {
		{ "busy", SCSI_BUSY, 0, 0, 0, 5, 0 },
		{ "busy for ever", SCSI_BUSY, 0, 0, 0, 100000, -EIO },
		{ "task set full", SCSI_TASK_SET_FULL, 0, 0, 0, 5, 0 },
		{ "unit attention", SCSI_CHECK_CONDITION, 6, 0x29, 0, 5, 0 },
		{ "aborted", SCSI_CHECK_CONDITION, 0xb, 0, 0, 2, 0 },
		{ "conflict", SCSI_RESERVATION_CONFLICT, 0, 0, 0, 1, -EACCES },
		{ "protected", SCSI_CHECK_CONDITION, 7, 0x27, 0, 1, -EROFS },
		{ "full", SCSI_CHECK_CONDITION, 7, 0x27, 7, 1, -ENOSPC },
		{ "bad medium", SCSI_CHECK_CONDITION, 3, 0x0c, 0, 1, -EIO },
		{ "unknown", SCSI_CHECK_CONDITION, 9, 0x81, 0, 1, -EIO },
		{ "unknown opcode", SCSI_CHECK_CONDITION, 5, 0x20, 0, 1, -EIO },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		reset();
		disk.status = rows[i].status;
		disk.key = rows[i].key;
		disk.asc = rows[i].asc;
		disk.ascq = rows[i].ascq;
		disk.n_faults = rows[i].n;
		ROW_EQ(rows[i].name, run_range(BD_WRITE, 8, 8, 0), rows[i].error);
		/* within 30 s and one wait */
		ck_assert_uint_le(disk.now_ns, 39 * ISCSI_S);
		ck_assert_uint_eq(disk.n_checks, 0);
	}
}
END_TEST

START_TEST(a_changed_capacity_makes_the_session_look)
{
	reset();
	disk.status = SCSI_CHECK_CONDITION;
	disk.key = 6;
	disk.asc = 0x2a;
	disk.ascq = 9;
	disk.n_faults = 1;
	ck_assert_int_eq(run_range(BD_WRITE, 8, 8, 0), 0);
	ck_assert_uint_eq(disk.n_checks, 1);
	disk.n_faults = 100;
	ck_assert_int_eq(run_range(BD_WRITE, 8, 8, 0), -EIO);
	ck_assert_uint_le(disk.n_checks, 5);
}
END_TEST

START_TEST(fua_is_durable_with_and_without_the_bit)
{
	for (int fua = 0; fua < 2; fua++) {
		reset();
		session.disk.fua = disk.fua = fua;
		ck_assert_int_eq(run_range(BD_WRITE, 8, 8, 0), 0);
		ck_assert(disk.dirty);
		ck_assert_int_eq(run_range(BD_WRITE, 8, 8, BD_FUA), 0);
		ck_assert(!disk.dirty);
		ck_assert_int_eq(run_range(BD_ZERO, 8, 8, BD_FUA), 0);
		ck_assert(!disk.dirty);
	}
	session.disk.info.write_cache = false; /* nothing to flush */
	ck_assert_int_eq(run_range(BD_ZERO, 8, 8, BD_FUA), 0);
	ck_assert(disk.dirty);
}
END_TEST

START_TEST(zeros_are_unmapped_or_written_or_refused)
{
	reset();
	ck_assert_int_eq(run_range(BD_ZERO, 8, 1000, 0), 0);
	ck_assert(!disk.mapped[8] && disk.data[8 * BS] == 0 &&
		  disk.data[1008 * BS - 1] == 0);
	ck_assert(disk.data[1008 * BS] != 0);

	reset();
	disk.write_same_unmap = false;
	ck_assert_int_eq(run_range(BD_ZERO, 8, 8, 0), 0);
	ck_assert(disk.mapped[8]);
	ck_assert_uint_eq(disk.n_commands, 2);
	ck_assert_int_eq(run_range(BD_ZERO, 8, 8, 0), 0);
	ck_assert_uint_eq(disk.n_commands, 3); /* it remembers */

	reset();
	disk.write_same_unmap = disk.write_same = false;
	ck_assert_int_eq(run_range(BD_ZERO, 8, 8, 0), -EOPNOTSUPP);
	ck_assert_int_eq(run_range(BD_ZERO, 8, 8, 0), -EOPNOTSUPP);
	ck_assert_uint_eq(disk.n_commands, 2);

	reset();
	session.disk.limits.max_write_same = 100;
	ck_assert_int_eq(run_range(BD_ZERO, 0, 1000, 0), 0);
	ck_assert_uint_eq(disk.n_commands, 10);
	ck_assert(disk.data[1000 * BS - 1] == 0 && disk.data[1000 * BS] != 0);
}
END_TEST

START_TEST(discards)
{
	reset();
	memset(disk.mapped, 1, sizeof(disk.mapped));
	session.disk.limits.max_unmap = 64;
	ck_assert_int_eq(run_range(BD_DISCARD, 10, 100, 0), 0);
	ck_assert_uint_eq(disk.n_commands, 2);
	ck_assert(disk.mapped[9] && !disk.mapped[10] && !disk.mapped[109] &&
		  disk.mapped[110]);
	disk.unmap = false;
	ck_assert_int_eq(run_range(BD_DISCARD, 10, 64, 0), -EOPNOTSUPP);
	ck_assert_int_eq(run_range(BD_DISCARD, 10, 64, 0), -EOPNOTSUPP);
	ck_assert_uint_eq(disk.n_commands, 3);
}
END_TEST

START_TEST(flushes)
{
	reset();
	disk.dirty = true;
	ck_assert_int_eq(run_range(BD_FLUSH, 0, 0, 0), 0);
	ck_assert(!disk.dirty);

	reset();
	disk.sync16 = false;
	disk.dirty = true;
	ck_assert_int_eq(run_range(BD_FLUSH, 0, 0, 0), 0);
	ck_assert(!disk.dirty);
	ck_assert_int_eq(run_range(BD_FLUSH, 0, 0, 0), 0);
	ck_assert_uint_eq(disk.n_commands, 3);

	disk.sync10 = false;
	ck_assert_int_eq(run_range(BD_FLUSH, 0, 0, 0), -EOPNOTSUPP);
	session.disk.info.write_cache = false;
	ck_assert_int_eq(run_range(BD_FLUSH, 0, 0, 0), 0);
}
END_TEST

static void ck_extents(uint64_t lba, uint64_t n, const char *wanted)
{
	struct bd_extent extents[BD_MAX_EXTENTS];
	struct bd_req req = {
		.op = BD_EXTENTS, .offset = lba * BS, .length = n * BS, .extents = extents
	};
	char text[400] = "";
	uint64_t at = lba * BS;

	ck_assert_int_eq(run(&req), 0);
	ck_assert_uint_gt(req.n_extents, 0);
	for (size_t i = 0; i < req.n_extents; i++) {
		ck_assert_uint_eq(extents[i].offset, at);
		at += extents[i].length;
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%c%d",
			 extents[i].mapped ? '+' : '-', (int)(extents[i].length / BS));
	}
	ck_assert_uint_le(at, (lba + n) * BS);
	ck_assert_str_eq(text, wanted);
}

START_TEST(extents_are_clipped_merged_and_whole)
{
	reset();
	memset(disk.mapped + 100, 1, 50);
	memset(disk.mapped + 200, 1, 1);
	ck_extents(0, BLOCKS, "-100+50-50+1-3895");
	ck_extents(120, 60, "+30-30");
	ck_extents(140, 5, "+5");
	disk.lba_status_len = 8 + 2 * 16;
	ck_extents(0, BLOCKS, "-100+50"); /* as far as the answer goes */
	disk.lba_status_len = 8;
	ck_extents(0, 300, "+300"); /* an empty answer */
	disk.lba_status_len = 0;

	session.disk.zeros = false; /* unmapped means nothing */
	ck_extents(0, 300, "+300");
	session.disk.zeros = true;
	disk.lba_status = false;
	disk.n_commands = 0;
	ck_extents(0, 300, "+300");
	ck_extents(0, 300, "+300");
	ck_assert_uint_eq(disk.n_commands, 1);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_read_is_one_command,
		bad_blocks_are_narrowed_down,
		the_first_of_several_bad_ranges_is_reported,
		a_hint_that_is_wrong_does_no_harm,
		a_fault_that_passes_is_read_again,
		a_short_read_is_no_read,
		what_passes_is_sent_again_and_what_does_not_ends,
		a_changed_capacity_makes_the_session_look,
		fua_is_durable_with_and_without_the_bit,
		zeros_are_unmapped_or_written_or_refused,
		discards,
		flushes,
		extents_are_clipped_merged_and_whole,
	};

	return unit_main("iscsi_request", tests, ROWS(tests));
}
