/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Requests as SCSI commands.  A request holds one command at a time; what
 * needs several sends them one after the other: step(cmd) builds and sends the
 * next one, an answer leads to the next step() or to finish().
 *
 * What the target cannot do now is sent again after growing random waits, for
 * RETRY_S in all; what it cannot do at all is remembered until the next login.
 *
 * A read of blocks that cannot be read is narrowed down.  [low, high) always
 * holds a bad block and everything before low was read: the first half is read
 * (or what stands before the block that the sense data name), and one of the
 * two ends moves.  When one block is left and was itself seen to fail, the
 * blocks after it are read one by one until one can be read, so that a run of
 * bad blocks is reported as one.  All these reads go to their place in the
 * request's buffer.
 */

#include <errno.h>
#include <string.h>

#include "engine/iscsi_session.h"

enum {
	RETRY_S = 30,
	RETRY_FIRST_MS = 8, /* mean of the first wait, doubling */
	RETRY_MAX_MS = 4000,
	MAX_IDENTIFIED = 3,
	MAX_BAD_RUN = 64, /* blocks looked at one by one */
	MAX_ZERO_BLOCK = 4096,
	/* The most that one command may take, in bytes: each must end within
	 * its deadline. */
	MAX_ZERO = 32 << 20, /* written */
	MAX_UNMAP = 1 << 30, /* unmapped */
	LBA_STATUS_LEN = 8 + 16 * BD_MAX_EXTENTS,
};

enum phase {
	PHASE_MAIN,
	PHASE_FLUSH,  /* BD_FUA where WRITE does not take it */
	PHASE_NARROW, /* BD_READ */
	PHASE_RUN,    /* BD_READ: how far the bad blocks go */
};

#define NO_HINT UINT64_MAX

static void step(struct iscsi_cmd *cmd);

static uint32_t block_size(const struct iscsi_cmd *cmd)
{
	return cmd->session->disk.info.block_size;
}

/* The request's first block, and the one after its last. */
static uint64_t first_block(const struct iscsi_cmd *cmd)
{
	return cmd->req->offset / block_size(cmd);
}

static uint64_t end_block(const struct iscsi_cmd *cmd)
{
	return (cmd->req->offset + cmd->req->length) / block_size(cmd);
}

static void finish(struct iscsi_cmd *cmd, int error)
{
	struct iscsi_session *s = cmd->session;
	struct bd_req *req = cmd->req;

	iscsi_cmd_put(cmd);
	iscsi_session_answer(s, req, error);
}

static void on_lost(struct iscsi_cmd *cmd)
{
	finish(cmd, -ENOTCONN);
}

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Blocks of one command that takes at most `limit` blocks (0 = none reported)
 * and here at most `bytes`. */
static uint32_t piece(const struct iscsi_cmd *cmd, uint64_t limit, uint64_t bytes)
{
	uint64_t n = min64(end_block(cmd) - cmd->at, bytes / block_size(cmd));

	return (uint32_t)(limit ? min64(n, limit) : n);
}

static uint64_t fua_needed(const struct iscsi_cmd *cmd)
{
	return (cmd->req->flags & BD_FUA) && cmd->session->disk.info.write_cache;
}

/* The end of a write or zero: durable at once, or by a flush that follows. */
static void written(struct iscsi_cmd *cmd, bool was_fua)
{
	if (was_fua || !fua_needed(cmd)) {
		finish(cmd, 0);
		return;
	}
	cmd->phase = PHASE_FLUSH;
	step(cmd);
}

/* Retries. */

static void send_again(struct iscsi_cmd *cmd, bool at_once)
{
	struct iscsi_session *s = cmd->session;
	unsigned shift = cmd->tries < 9 ? cmd->tries : 9;
	uint64_t mean = min64((uint64_t)RETRY_FIRST_MS << shift, RETRY_MAX_MS);

	if (loop_now(s->loop) - cmd->first_ns > RETRY_S * ISCSI_S) {
		finish(cmd, cmd->outcome.error);
		return;
	}
	if (at_once && cmd->tries == 0)
		mean = 0;
	cmd->tries++;
	iscsi_cmd_send_later(cmd, iscsi_session_random(s, 2 * mean * ISCSI_MS));
}

static void begin_step(struct iscsi_cmd *cmd)
{
	cmd->tries = 0;
	cmd->first_ns = loop_now(cmd->session->loop);
	iscsi_cmd_send(cmd);
}

/* BD_READ. */

static void send_read(struct iscsi_cmd *cmd, uint64_t lba, uint64_t count)
{
	struct bd_req *req = cmd->req;
	uint32_t bs = block_size(cmd);

	cmd->at = lba;
	cmd->count = count;
	scsi_make_read16(&cmd->scsi, lba, (uint32_t)count, (uint32_t)count * bs);
	cmd->data = (char *)req->buf + (lba - first_block(cmd)) * bs;
	begin_step(cmd);
}

static void report_bad(struct iscsi_cmd *cmd)
{
	cmd->req->bad_offset = cmd->low * block_size(cmd);
	cmd->req->bad_length = (cmd->high - cmd->low) * block_size(cmd);
	finish(cmd, -ENODATA);
}

static void narrow(struct iscsi_cmd *cmd)
{
	uint64_t middle = cmd->low + (cmd->high - cmd->low) / 2;

	if (cmd->high - cmd->low == 1) {
		if (cmd->high_is_sure) {
			cmd->phase = PHASE_RUN;
			step(cmd);
			return;
		}
		middle = cmd->high;
	} else if (cmd->hint == cmd->low) {
		middle = cmd->low + 1;
	} else if (cmd->hint > cmd->low && cmd->hint < cmd->high) {
		middle = cmd->hint;
	}
	send_read(cmd, cmd->low, middle - cmd->low);
}

static void take_hint(struct iscsi_cmd *cmd, const struct scsi_outcome *outcome)
{
	cmd->hint = outcome->has_information && outcome->information >= cmd->at &&
				    outcome->information < cmd->at + cmd->count ?
			    outcome->information :
			    NO_HINT;
}

static void narrowed_good(struct iscsi_cmd *cmd)
{
	cmd->low = cmd->at + cmd->count;
	if (cmd->low < cmd->high) {
		narrow(cmd);
		return;
	}
	/* The block that was left can be read after all: read it all anew. */
	if (cmd->identified++ >= MAX_IDENTIFIED) {
		finish(cmd, -EIO);
		return;
	}
	cmd->phase = PHASE_MAIN;
	step(cmd);
}

static void narrowed_bad(struct iscsi_cmd *cmd, const struct scsi_outcome *outcome)
{
	cmd->high = cmd->at + cmd->count;
	cmd->high_is_sure = cmd->count == 1;
	take_hint(cmd, outcome);
	narrow(cmd);
}

static void step_run(struct iscsi_cmd *cmd)
{
	if (cmd->high < end_block(cmd) && cmd->high - cmd->low < MAX_BAD_RUN)
		send_read(cmd, cmd->high, 1);
	else
		report_bad(cmd);
}

static void read_failed(struct iscsi_cmd *cmd, const struct scsi_outcome *outcome)
{
	switch (cmd->phase) {
	case PHASE_MAIN:
		cmd->phase = PHASE_NARROW;
		cmd->low = first_block(cmd);
		narrowed_bad(cmd, outcome);
		return;
	case PHASE_NARROW:
		narrowed_bad(cmd, outcome);
		return;
	default:
		cmd->high++;
		step_run(cmd);
		return;
	}
}

static void read_done(struct iscsi_cmd *cmd)
{
	switch (cmd->phase) {
	case PHASE_MAIN:
		finish(cmd, 0);
		return;
	case PHASE_NARROW:
		narrowed_good(cmd);
		return;
	default:
		report_bad(cmd);
		return;
	}
}

/* BD_WRITE. */

static void step_write(struct iscsi_cmd *cmd)
{
	struct bd_req *req = cmd->req;
	bool fua = (req->flags & BD_FUA) && cmd->session->disk.fua;

	scsi_make_write16(&cmd->scsi, cmd->at, piece(cmd, 0, UINT32_MAX),
			  (uint32_t)req->length, fua);
	cmd->data = req->buf;
	begin_step(cmd);
}

/*
 * BD_ZERO: WRITE SAME, with the UNMAP bit where the target has it: it then
 * unmaps only what will read as zeros, and writes the rest (SBC-3 5.49).  UNMAP
 * itself is no way to zero: a target may leave blocks as they are.
 */
static void step_zero(struct iscsi_cmd *cmd)
{
	static uint8_t zeros[MAX_ZERO_BLOCK];
	struct iscsi_session *s = cmd->session;
	uint32_t bs = block_size(cmd);
	bool unmap = s->disk.provisioning.write_same && !s->no_write_same_unmap;
	uint64_t max = unmap ? MAX_UNMAP : MAX_ZERO;

	if (cmd->at == end_block(cmd)) {
		written(cmd, false);
		return;
	}
	if (s->no_write_same || bs > MAX_ZERO_BLOCK) {
		finish(cmd, -EOPNOTSUPP);
		return;
	}
	cmd->count = piece(cmd, s->disk.limits.max_write_same, max);
	scsi_make_write_same16(&cmd->scsi, cmd->at, (uint32_t)cmd->count, bs, unmap);
	cmd->data = zeros;
	begin_step(cmd);
}

static void zero_refused(struct iscsi_cmd *cmd)
{
	struct iscsi_session *s = cmd->session;

	if (cmd->scsi.cdb[1] & 0x08)
		s->no_write_same_unmap = true;
	else
		s->no_write_same = true;
	step_zero(cmd);
}

/* BD_DISCARD. */

static void step_discard(struct iscsi_cmd *cmd)
{
	struct iscsi_session *s = cmd->session;

	if (cmd->at == end_block(cmd)) {
		finish(cmd, 0);
		return;
	}
	if (!s->disk.provisioning.unmap || s->no_unmap) {
		finish(cmd, -EOPNOTSUPP);
		return;
	}
	cmd->count = piece(cmd, s->disk.limits.max_unmap, MAX_UNMAP);
	scsi_make_unmap(&cmd->scsi, cmd->param, cmd->at, (uint32_t)cmd->count);
	cmd->data = cmd->param;
	begin_step(cmd);
}

/* BD_FLUSH, and the flush that ends a write. */

static void step_flush(struct iscsi_cmd *cmd)
{
	struct iscsi_session *s = cmd->session;

	if (s->no_sync) {
		finish(cmd, s->disk.info.write_cache ? -EOPNOTSUPP : 0);
		return;
	}
	if (s->no_sync16)
		scsi_make_synchronize_cache10(&cmd->scsi);
	else
		scsi_make_synchronize_cache16(&cmd->scsi);
	cmd->data = NULL;
	begin_step(cmd);
}

static void flush_refused(struct iscsi_cmd *cmd)
{
	struct iscsi_session *s = cmd->session;

	if (s->no_sync16)
		s->no_sync = true;
	else
		s->no_sync16 = true;
	step_flush(cmd);
}

/* BD_EXTENTS. */

static void all_mapped(struct iscsi_cmd *cmd)
{
	struct bd_req *req = cmd->req;

	req->extents[0] = (struct bd_extent){ req->offset, req->length, true };
	req->n_extents = 1;
	finish(cmd, 0);
}

static void step_extents(struct iscsi_cmd *cmd)
{
	struct iscsi_session *s = cmd->session;

	if (!s->disk.info.thin || !s->disk.zeros || s->no_lba_status) {
		all_mapped(cmd);
		return;
	}
	scsi_make_get_lba_status(&cmd->scsi, cmd->at, LBA_STATUS_LEN);
	cmd->data = NULL;
	begin_step(cmd);
}

static void add_extent(struct bd_req *req, uint64_t offset, uint64_t length, bool mapped)
{
	struct bd_extent *last =
		req->n_extents ? &req->extents[req->n_extents - 1] : NULL;

	if (last && last->mapped == mapped)
		last->length += length;
	else
		req->extents[req->n_extents++] =
			(struct bd_extent){ offset, length, mapped };
}

static void extents_done(struct iscsi_cmd *cmd)
{
	struct scsi_lba_run runs[BD_MAX_EXTENTS];
	uint64_t at = first_block(cmd), end = end_block(cmd);
	uint32_t bs = block_size(cmd);
	const uint8_t *data;
	size_t len, n = 0;

	data = iscsi_cmd_data(cmd, &len);
	scsi_parse_lba_status(data, len, runs, BD_MAX_EXTENTS, &n);
	for (size_t i = 0; i < n && at < end; i++) {
		uint64_t run_end = runs[i].lba + runs[i].blocks;

		if (runs[i].lba > at || run_end < runs[i].lba)
			break; /* a gap, or nonsense: what was said before it counts */
		if (run_end <= at)
			continue;
		run_end = min64(run_end, end);
		add_extent(cmd->req, at * bs, (run_end - at) * bs, runs[i].mapped);
		at = run_end;
	}
	if (cmd->req->n_extents == 0)
		all_mapped(cmd);
	else
		finish(cmd, 0);
}

/* Answers. */

static void done(struct iscsi_cmd *cmd)
{
	if (cmd->phase == PHASE_FLUSH) {
		finish(cmd, 0);
		return;
	}
	switch (cmd->req->op) {
	case BD_READ:
		read_done(cmd);
		return;
	case BD_WRITE:
		written(cmd, cmd->scsi.cdb[1] & 0x08);
		return;
	case BD_ZERO:
	case BD_DISCARD:
		cmd->at += cmd->count;
		step(cmd);
		return;
	case BD_FLUSH:
		finish(cmd, 0);
		return;
	case BD_EXTENTS:
		extents_done(cmd);
		return;
	}
}

static void unsupported(struct iscsi_cmd *cmd)
{
	struct iscsi_session *s = cmd->session;

	if (cmd->phase == PHASE_FLUSH) {
		flush_refused(cmd);
		return;
	}
	switch (cmd->req->op) {
	case BD_ZERO:
		zero_refused(cmd);
		return;
	case BD_DISCARD:
		s->no_unmap = true;
		step(cmd);
		return;
	case BD_FLUSH:
		flush_refused(cmd);
		return;
	case BD_EXTENTS:
		s->no_lba_status = true;
		step(cmd);
		return;
	default:
		finish(cmd, -EIO);
		return;
	}
}

/* Fewer or more bytes than asked for, whatever the status says. */
static bool has_residual(const struct iscsi_cmd *cmd)
{
	return (cmd->req->op == BD_READ || cmd->req->op == BD_WRITE) &&
	       cmd->phase != PHASE_FLUSH &&
	       cmd->task->residual_status != SCSI_RESIDUAL_NO_RESIDUAL;
}

static void on_answered(struct iscsi_cmd *cmd, const struct scsi_outcome *outcome)
{
	cmd->outcome = *outcome;
	switch (outcome->verdict) {
	case SCSI_DONE:
		if (has_residual(cmd))
			finish(cmd, -EIO);
		else
			done(cmd);
		return;
	case SCSI_AGAIN:
	case SCSI_AGAIN_LATER:
		send_again(cmd, outcome->verdict == SCSI_AGAIN);
		return;
	case SCSI_IDENTIFY:
		if (cmd->identified++ >= MAX_IDENTIFIED) {
			finish(cmd, outcome->error);
			return;
		}
		iscsi_session_check(cmd->session);
		send_again(cmd, true);
		return;
	case SCSI_UNSUPPORTED:
		unsupported(cmd);
		return;
	case SCSI_BAD_MEDIUM:
		if (cmd->req->op == BD_READ)
			read_failed(cmd, outcome);
		else
			finish(cmd, -EIO);
		return;
	case SCSI_FAILED:
		/* Our registration may be gone. */
		if (outcome->status == SCSI_RESERVATION_CONFLICT &&
		    cmd->session->registered)
			iscsi_session_check(cmd->session);
		finish(cmd, outcome->error);
		return;
	}
}

static void step(struct iscsi_cmd *cmd)
{
	if (cmd->phase == PHASE_FLUSH) {
		step_flush(cmd);
		return;
	}
	if (cmd->phase == PHASE_RUN) {
		step_run(cmd);
		return;
	}
	switch (cmd->req->op) {
	case BD_READ:
		send_read(cmd, first_block(cmd), end_block(cmd) - first_block(cmd));
		return;
	case BD_WRITE:
		step_write(cmd);
		return;
	case BD_ZERO:
		step_zero(cmd);
		return;
	case BD_DISCARD:
		step_discard(cmd);
		return;
	case BD_FLUSH:
		step_flush(cmd);
		return;
	case BD_EXTENTS:
		step_extents(cmd);
		return;
	}
}

void iscsi_request_start(struct iscsi_cmd *cmd, struct bd_req *req)
{
	cmd->req = req;
	cmd->answered = on_answered;
	cmd->lost = on_lost;
	cmd->phase = PHASE_MAIN;
	cmd->identified = 0;
	cmd->hint = NO_HINT;
	cmd->at = first_block(cmd);
	step(cmd);
}
