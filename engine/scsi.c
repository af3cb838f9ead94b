/* SPDX-License-Identifier: BSD-2-Clause */

#include "engine/scsi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static uint32_t get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
	return get16(p) << 16 | get16(p + 2);
}

static uint64_t get64(const uint8_t *p)
{
	return (uint64_t)get32(p) << 32 | get32(p + 4);
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static void put64(uint8_t *p, uint64_t v)
{
	put32(p, (uint32_t)(v >> 32));
	put32(p + 4, (uint32_t)v);
}

/* Commands. */

static void make(struct scsi_command *c, uint8_t opcode, int cdb_len,
		 enum scsi_direction direction, uint32_t length)
{
	memset(c, 0, sizeof(*c));
	c->cdb[0] = opcode;
	c->cdb_len = cdb_len;
	c->direction = direction;
	c->length = length;
}

void scsi_make_test_unit_ready(struct scsi_command *c)
{
	make(c, 0x00, 6, SCSI_NO_DATA, 0);
}

void scsi_make_inquiry(struct scsi_command *c, int page, uint16_t length)
{
	make(c, 0x12, 6, SCSI_DATA_IN, length);
	if (page != SCSI_NO_VPD) {
		c->cdb[1] = 1;
		c->cdb[2] = (uint8_t)page;
	}
	put16(&c->cdb[3], length);
}

void scsi_make_read_capacity10(struct scsi_command *c)
{
	make(c, 0x25, 10, SCSI_DATA_IN, 8);
}

void scsi_make_read_capacity16(struct scsi_command *c)
{
	make(c, 0x9e, 16, SCSI_DATA_IN, 32);
	c->cdb[1] = 0x10;
	put32(&c->cdb[10], 32);
}

void scsi_make_mode_sense6(struct scsi_command *c, uint8_t page, uint8_t length)
{
	make(c, 0x1a, 6, SCSI_DATA_IN, length);
	c->cdb[2] = page;
	c->cdb[4] = length;
}

void scsi_make_read16(struct scsi_command *c, uint64_t lba, uint32_t blocks,
		      uint32_t length)
{
	make(c, 0x88, 16, SCSI_DATA_IN, length);
	put64(&c->cdb[2], lba);
	put32(&c->cdb[10], blocks);
}

void scsi_make_write16(struct scsi_command *c, uint64_t lba, uint32_t blocks,
		       uint32_t length, bool fua)
{
	make(c, 0x8a, 16, SCSI_DATA_OUT, length);
	c->cdb[1] = fua ? 0x08 : 0;
	put64(&c->cdb[2], lba);
	put32(&c->cdb[10], blocks);
}

void scsi_make_write_same16(struct scsi_command *c, uint64_t lba, uint32_t blocks,
			    uint32_t block_size, bool unmap)
{
	make(c, 0x93, 16, SCSI_DATA_OUT, block_size);
	c->cdb[1] = unmap ? 0x08 : 0;
	put64(&c->cdb[2], lba);
	put32(&c->cdb[10], blocks);
}

void scsi_make_unmap(struct scsi_command *c, uint8_t param[SCSI_UNMAP_PARAM_LEN],
		     uint64_t lba, uint32_t blocks)
{
	make(c, 0x42, 10, SCSI_DATA_OUT, SCSI_UNMAP_PARAM_LEN);
	put16(&c->cdb[7], SCSI_UNMAP_PARAM_LEN);
	memset(param, 0, SCSI_UNMAP_PARAM_LEN);
	put16(&param[0], SCSI_UNMAP_PARAM_LEN - 2);
	put16(&param[2], SCSI_UNMAP_PARAM_LEN - 8);
	put64(&param[8], lba);
	put32(&param[16], blocks);
}

void scsi_make_synchronize_cache10(struct scsi_command *c)
{
	make(c, 0x35, 10, SCSI_NO_DATA, 0);
}

void scsi_make_synchronize_cache16(struct scsi_command *c)
{
	make(c, 0x91, 16, SCSI_NO_DATA, 0);
}

void scsi_make_get_lba_status(struct scsi_command *c, uint64_t lba, uint32_t length)
{
	make(c, 0x9e, 16, SCSI_DATA_IN, length);
	c->cdb[1] = 0x12;
	put64(&c->cdb[2], lba);
	put32(&c->cdb[10], length);
}

void scsi_make_pr_in(struct scsi_command *c, enum scsi_pr_in action, uint16_t length)
{
	make(c, 0x5e, 10, SCSI_DATA_IN, length);
	c->cdb[1] = (uint8_t)action;
	put16(&c->cdb[7], length);
}

void scsi_make_pr_out(struct scsi_command *c, uint8_t param[SCSI_PR_OUT_PARAM_LEN],
		      enum scsi_pr_out action, enum scsi_pr_type type, uint64_t key,
		      uint64_t action_key, bool aptpl)
{
	make(c, 0x5f, 10, SCSI_DATA_OUT, SCSI_PR_OUT_PARAM_LEN);
	c->cdb[1] = (uint8_t)action;
	if (action == SCSI_PR_RESERVE || action == SCSI_PR_RELEASE ||
	    action == SCSI_PR_PREEMPT)
		c->cdb[2] = (uint8_t)type;
	put32(&c->cdb[5], SCSI_PR_OUT_PARAM_LEN);
	memset(param, 0, SCSI_PR_OUT_PARAM_LEN);
	put64(&param[0], key);
	put64(&param[8], action_key);
	param[20] = aptpl ? 1 : 0;
}

/* Answers. */

/* Printable text without the blanks and NULs at its ends; to has room for
 * len + 1 bytes. */
static void copy_text(char *to, const uint8_t *from, size_t len)
{
	while (len > 0 && (from[len - 1] == ' ' || from[len - 1] == '\0'))
		len--;
	while (len > 0 && (*from == ' ' || *from == '\0')) {
		from++;
		len--;
	}
	for (size_t i = 0; i < len; i++)
		to[i] = from[i] >= 0x20 && from[i] < 0x7f ? (char)from[i] : '?';
	to[len] = '\0';
}

int scsi_parse_inquiry(const uint8_t *data, size_t len, struct scsi_identity *ret)
{
	if (len < 36)
		return -EPROTO;
	ret->qualifier = data[0] >> 5;
	ret->device_type = data[0] & 0x1f;
	copy_text(ret->vendor, &data[8], 8);
	copy_text(ret->product, &data[16], 16);
	copy_text(ret->revision, &data[32], 4);
	return 0;
}

/* The body of a VPD page: its length, or -EPROTO. */
static int page_length(const uint8_t *data, size_t len, uint8_t page)
{
	size_t body;

	if (len < 4 || data[1] != page)
		return -EPROTO;
	body = get16(&data[2]);
	return (int)(body < len - 4 ? body : len - 4);
}

bool scsi_has_page(const uint8_t *data, size_t len, uint8_t page)
{
	int n = page_length(data, len, SCSI_VPD_SUPPORTED_PAGES);

	return n > 0 && memchr(&data[4], page, (size_t)n);
}

int scsi_parse_serial(const uint8_t *data, size_t len, char ret_serial[253])
{
	int n = page_length(data, len, SCSI_VPD_SERIAL);

	if (n < 0)
		return n;
	copy_text(ret_serial, &data[4], n < 252 ? (size_t)n : 252);
	return 0;
}

static void format_designator(char wwn[260], const char *prefix, const uint8_t *id,
			      size_t len, bool text)
{
	int at = snprintf(wwn, 260, "%s", prefix);

	if (text) {
		copy_text(wwn + at, id, len < 255 ? len : 255);
		return;
	}
	for (size_t i = 0; i < len && at < 258; i++)
		at += snprintf(wwn + at, 260 - (size_t)at, "%02x", id[i]);
}

/* SPC-4 7.8.5.  Rank: NAA before EUI-64 before T10; of several NAA the longer. */
int scsi_parse_wwn(const uint8_t *data, size_t len, char ret_wwn[260])
{
	static const char *const prefixes[] = {
		[1] = "t10.", [2] = "eui.", [3] = "naa."
	};
	int n = page_length(data, len, SCSI_VPD_IDENTIFICATION);
	size_t best = 0;

	if (n < 0)
		return n;
	ret_wwn[0] = '\0';
	for (size_t at = 4; at + 4 <= 4 + (size_t)n;) {
		const uint8_t *d = &data[at];
		size_t id_len = d[3];
		unsigned type = d[1] & 0x0f, association = d[1] >> 4 & 3;
		size_t rank = type * 256 + id_len;

		at += 4 + id_len;
		if (at > 4 + (size_t)n)
			break;
		if (association != 0 || type < 1 || type > 3 || id_len == 0 ||
		    rank <= best)
			continue;
		best = rank;
		format_designator(ret_wwn, prefixes[type], d + 4, id_len,
				  type == 1 && (d[0] & 0x0f) != 1);
	}
	return 0;
}

int scsi_parse_limits(const uint8_t *data, size_t len, struct scsi_limits *ret)
{
	int n = page_length(data, len, SCSI_VPD_BLOCK_LIMITS);

	if (n < 12)
		return -EPROTO;
	/* SBC-2 ended the page after OPTIMAL TRANSFER LENGTH. */
	ret->max_transfer = get32(&data[8]);
	ret->opt_transfer = get32(&data[12]);
	ret->max_unmap = n >= 24 ? get32(&data[20]) : 0;
	ret->max_write_same = n >= 40 ? get64(&data[36]) : 0;
	return 0;
}

int scsi_parse_provisioning(const uint8_t *data, size_t len,
			    struct scsi_provisioning *ret)
{
	int n = page_length(data, len, SCSI_VPD_PROVISIONING);

	if (n < 4)
		return -EPROTO;
	ret->unmap = data[5] & 0x80;
	ret->write_same = data[5] & 0x40;
	ret->zeros = data[5] & 0x04;
	ret->pattern = (data[5] & 0x1c) == 0x08;
	return 0;
}

static bool is_block_size(uint32_t n)
{
	return n >= 512 && n <= 65536 && (n & (n - 1)) == 0;
}

int scsi_parse_capacity16(const uint8_t *data, size_t len, struct scsi_capacity *ret)
{
	uint64_t last;
	uint32_t block_size;

	if (len < 16)
		return -EPROTO;
	last = get64(&data[0]);
	block_size = get32(&data[8]);
	if (!is_block_size(block_size) || last >= (uint64_t)INT64_MAX / block_size)
		return -EPROTO;
	ret->blocks = last + 1;
	ret->block_size = block_size;
	ret->thin = data[14] & 0x80;
	ret->zeros = data[14] & 0x40;
	return 0;
}

int scsi_parse_capacity10(const uint8_t *data, size_t len, struct scsi_capacity *ret)
{
	uint32_t last, block_size;

	if (len < 8)
		return -EPROTO;
	last = get32(&data[0]);
	block_size = get32(&data[4]);
	if (!is_block_size(block_size))
		return -EPROTO;
	ret->blocks = last == UINT32_MAX ? 0 : (uint64_t)last + 1;
	ret->block_size = block_size;
	ret->thin = false;
	ret->zeros = false;
	return 0;
}

int scsi_parse_caching(const uint8_t *data, size_t len, struct scsi_caching *ret)
{
	size_t at, end;

	if (len < 4)
		return -EPROTO;
	ret->write_protect = data[2] & 0x80;
	ret->fua = data[2] & 0x10;
	ret->has_page = false;
	ret->write_cache = false;
	end = (size_t)data[0] + 1 < len ? (size_t)data[0] + 1 : len;
	for (at = 4 + (size_t)data[3]; at + 3 <= end; at += 2 + (size_t)data[at + 1]) {
		if (data[at] & 0x40) /* sub-page format: not looked for */
			break;
		if ((data[at] & 0x3f) != SCSI_MODE_CACHING)
			continue;
		ret->has_page = true;
		ret->write_cache = data[at + 2] & 0x04;
		break;
	}
	return 0;
}

int scsi_parse_lba_status(const uint8_t *data, size_t len, struct scsi_lba_run *ret_runs,
			  size_t max, size_t *ret_n)
{
	size_t n = 0, end;

	if (len < 8)
		return -EPROTO;
	/* The length does not count itself. */
	end = (size_t)get32(&data[0]) + 4 < len ? (size_t)get32(&data[0]) + 4 : len;
	for (size_t at = 8; at + 16 <= end && n < max; at += 16) {
		ret_runs[n].lba = get64(&data[at]);
		ret_runs[n].blocks = get32(&data[at + 8]);
		ret_runs[n].mapped =
			(data[at + 12] & 0x0f) != 1 && (data[at + 12] & 0x0f) != 2;
		n++;
	}
	*ret_n = n;
	return 0;
}

/* Where the list of READ KEYS ends; 0 if the answer is too short. */
static size_t end_of_keys(const uint8_t *data, size_t len)
{
	size_t end;

	if (len < 8)
		return 0;
	end = (size_t)get32(&data[4]) + 8;
	return end < len ? end : len;
}

int scsi_parse_keys(const uint8_t *data, size_t len, uint64_t own, uint64_t *ret_foreign)
{
	size_t end = end_of_keys(data, len);

	if (!end)
		return -EPROTO;
	*ret_foreign = 0;
	for (size_t at = 8; at + 8 <= end; at += 8) {
		if (get64(&data[at]) != own) {
			*ret_foreign = get64(&data[at]);
			break;
		}
	}
	return 0;
}

bool scsi_has_key(const uint8_t *data, size_t len, uint64_t key)
{
	size_t end = end_of_keys(data, len);

	for (size_t at = 8; at + 8 <= end; at += 8)
		if (get64(&data[at]) == key)
			return true;
	return false;
}

int scsi_parse_reservation(const uint8_t *data, size_t len, bool *ret_held,
			   uint64_t *ret_key, uint8_t *ret_type)
{
	if (len < 8)
		return -EPROTO;
	if (get32(&data[4]) == 0) {
		*ret_held = false;
		return 0;
	}
	if (len < 22)
		return -EPROTO;
	*ret_held = true;
	*ret_key = get64(&data[8]);
	*ret_type = data[21] & 0x0f;
	return 0;
}

int scsi_parse_pr_capabilities(const uint8_t *data, size_t len, bool *ret_aptpl)
{
	if (len < 8 || get16(&data[0]) < 8)
		return -EPROTO;
	*ret_aptpl = data[2] & 0x01;
	return 0;
}

/* Failures. */

enum { ANY = -1 };

/*
 * Sense to errno: the one table.  The first row that fits counts; code is ASC
 * and ASCQ, ASC_ALL(x) any ASCQ of it.  What no row names is SCSI_FAILED, -EIO.
 */
#define ASC_ALL(asc) (0x10000 | (asc) << 8)

static const struct {
	int key;
	int code;
	enum scsi_verdict verdict;
	int error;
} sense_table[] = {
	{ 0x1, ANY, SCSI_DONE, 0 },			/* recovered error */
	{ 0x2, 0x0401, SCSI_AGAIN_LATER, -EIO },	/* becoming ready */
	{ 0x2, 0x0404, SCSI_AGAIN_LATER, -EIO },	/* format in progress */
	{ 0x2, 0x0407, SCSI_AGAIN_LATER, -EIO },	/* operation in progress */
	{ 0x2, 0x040a, SCSI_AGAIN_LATER, -EIO },	/* ALUA state transition */
	{ 0x2, 0x0414, SCSI_AGAIN_LATER, -ENOSPC },	/* space allocation in progress */
	{ 0x3, ANY, SCSI_BAD_MEDIUM, -ENODATA },	/* medium error */
	{ 0x4, ANY, SCSI_BAD_MEDIUM, -EIO },		/* hardware error */
	{ 0x5, 0x2000, SCSI_UNSUPPORTED, -EOPNOTSUPP }, /* operation code */
	{ 0x5, 0x2100, SCSI_IDENTIFY, -EIO },		/* LBA out of range */
	{ 0x5, ASC_ALL(0x24), SCSI_UNSUPPORTED, -EOPNOTSUPP }, /* field in CDB */
	{ 0x5, 0x2500, SCSI_IDENTIFY, -EIO },		       /* no such logical unit */
	{ 0x5, ASC_ALL(0x26), SCSI_UNSUPPORTED, -EOPNOTSUPP }, /* field in parameters */
	{ 0x6, 0x2a03, SCSI_IDENTIFY, -EIO },  /* reservations preempted */
	{ 0x6, 0x2a04, SCSI_IDENTIFY, -EIO },  /* reservations released */
	{ 0x6, 0x2a05, SCSI_IDENTIFY, -EIO },  /* registrations preempted */
	{ 0x6, 0x2a09, SCSI_IDENTIFY, -EIO },  /* capacity changed */
	{ 0x6, 0x3f03, SCSI_IDENTIFY, -EIO },  /* inquiry data changed */
	{ 0x6, 0x3f05, SCSI_IDENTIFY, -EIO },  /* device identifier changed */
	{ 0x6, 0x3f0e, SCSI_IDENTIFY, -EIO },  /* LUN list changed */
	{ 0x6, ANY, SCSI_AGAIN, -EIO },	       /* unit attention */
	{ 0x7, 0x2707, SCSI_FAILED, -ENOSPC }, /* space allocation failed */
	{ 0x7, ANY, SCSI_FAILED, -EROFS },     /* data protect */
	{ 0xb, ANY, SCSI_AGAIN_LATER, -EIO },  /* aborted command */
	{ 0xd, ANY, SCSI_FAILED, -ENOSPC },    /* volume overflow */
};

static const struct {
	uint8_t status;
	enum scsi_verdict verdict;
	int error;
	const char *name;
} status_table[] = {
	{ SCSI_GOOD, SCSI_DONE, 0, "good" },
	{ SCSI_CONDITION_MET, SCSI_DONE, 0, "condition met" },
	{ SCSI_BUSY, SCSI_AGAIN_LATER, -EIO, "busy" },
	{ SCSI_RESERVATION_CONFLICT, SCSI_FAILED, -EACCES, "reservation conflict" },
	{ SCSI_TASK_SET_FULL, SCSI_AGAIN_LATER, -EIO, "task set full" },
	{ SCSI_ACA_ACTIVE, SCSI_AGAIN_LATER, -EIO, "ACA active" },
	{ SCSI_TASK_ABORTED, SCSI_AGAIN_LATER, -EIO, "task aborted" },
};

/* The INFORMATION field of descriptor format sense data (SPC-4 4.5.2.2). */
static void find_information(const uint8_t *sense, size_t len, struct scsi_outcome *ret)
{
	size_t end = len >= 8 && (size_t)sense[7] + 8 < len ? (size_t)sense[7] + 8 : len;

	for (size_t at = 8; at + 2 <= end; at += 2 + (size_t)sense[at + 1]) {
		if (sense[at] != 0 || sense[at + 1] < 10 || at + 12 > end)
			continue;
		ret->has_information = sense[at + 2] & 0x80;
		ret->information = get64(&sense[at + 4]);
		return;
	}
}

static bool parse_sense(const uint8_t *sense, size_t len, struct scsi_outcome *ret)
{
	uint8_t format = len > 0 ? sense[0] & 0x7f : 0;

	if ((format == 0x70 || format == 0x71) && len >= 3) {
		ret->key = sense[2] & 0x0f;
		ret->code = len >= 14 ? (uint16_t)get16(&sense[12]) : 0;
		ret->has_information = len >= 7 && (sense[0] & 0x80);
		ret->information = ret->has_information ? get32(&sense[3]) : 0;
		return true;
	}
	if ((format == 0x72 || format == 0x73) && len >= 4) {
		ret->key = sense[1] & 0x0f;
		ret->code = (uint16_t)get16(&sense[2]);
		find_information(sense, len, ret);
		return true;
	}
	return false;
}

static bool code_fits(int code, uint16_t seen)
{
	if (code == ANY)
		return true;
	if (code & 0x10000)
		return (code & 0xff00) == (seen & 0xff00);
	return code == seen;
}

static void judge_sense(struct scsi_outcome *ret)
{
	for (size_t i = 0; i < sizeof(sense_table) / sizeof(sense_table[0]); i++) {
		if (sense_table[i].key == ret->key &&
		    code_fits(sense_table[i].code, ret->code)) {
			ret->verdict = sense_table[i].verdict;
			ret->error = sense_table[i].error;
			return;
		}
	}
}

void scsi_judge(uint8_t status, const uint8_t *sense, size_t len,
		struct scsi_outcome *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->status = status;
	ret->verdict = SCSI_FAILED;
	ret->error = -EIO;
	if (status == SCSI_CHECK_CONDITION) {
		ret->has_sense = parse_sense(sense, len, ret);
		if (ret->has_sense)
			judge_sense(ret);
		return;
	}
	for (size_t i = 0; i < sizeof(status_table) / sizeof(status_table[0]); i++) {
		if (status_table[i].status == status) {
			ret->verdict = status_table[i].verdict;
			ret->error = status_table[i].error;
			return;
		}
	}
}

void scsi_describe(const struct scsi_outcome *outcome, char *buf, size_t size)
{
	static const char *const keys[16] = {
		"no sense",	  "recovered error", "not ready",      "medium error",
		"hardware error", "illegal request", "unit attention", "data protect",
		"blank check",	  "vendor specific", "copy aborted",   "aborted command",
		"reserved",	  "volume overflow", "miscompare",     "completed",
	};

	if (outcome->has_sense) {
		snprintf(buf, size, "%s (%x/%04x)", keys[outcome->key & 0x0f],
			 outcome->key, outcome->code);
		return;
	}
	for (size_t i = 0; i < sizeof(status_table) / sizeof(status_table[0]); i++) {
		if (status_table[i].status == outcome->status) {
			snprintf(buf, size, "%s", status_table[i].name);
			return;
		}
	}
	snprintf(buf, size, "SCSI status 0x%02x", outcome->status);
}
