/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * iscsi-proxy: a TCP proxy between an iSCSI initiator and its target that
 * breaks things on demand.
 *
 * One thread, one poll loop.  Each direction of a connection is cut into PDUs
 * (RFC 7143 section 11); a PDU goes on whole once it is here whole.  Digests
 * are followed as the login negotiates them.
 *
 * A fault is armed by a file of its name in the control directory, created
 * whole (write elsewhere, rename).  Its text is key=value, separated by blanks:
 *
 *	count=N	  fires N times, then the proxy removes the file: a test waits
 *		  for that (default 1; 0: for as long as the file exists)
 *	after=N	  lets the first N that match pass
 *	rate=P	  fires in P of 100 cases that match (random, --seed)
 *	op=X	  only SCSI commands that are read, write, sync, or have this
 *		  operation code
 *	lba=A-B	  only commands that touch these blocks
 *
 *	cut	  half a PDU goes on, then both connections close
 *		  (at=command, at=answer; default: any PDU)
 *	drop	  a command gets no answer (at=command: the target does not see
 *		  it either; its CmdSN is then missing)
 *	busy	  a command ends with BUSY (status=full: TASK SET FULL)
 *	ua	  a command ends with UNIT ATTENTION 29/00
 *	sense	  a command ends with key=, asc=, ascq=; the information field is
 *		  the first block of lba= that the command touches
 *	short	  a READ transfers blocks= (default: half) of what it asked for and
 *		  ends GOOD with the residual count that belongs to that
 *	flip	  one bit of the first answer to a READ is wrong
 *		  (at=header: in its header)
 *
 * These hold while the file exists:
 *
 *	stall	  nothing is forwarded, either way
 *	slow	  at most bytes_per_second= are forwarded to the initiator
 *	refuse	  new connections are closed at once (existing=1: those that
 *		  are there too)
 *	report	  the counters are written to `stats`, then `report` is removed
 *
 * busy, ua and sense replace the command by a TEST UNIT READY and change the
 * status of its answer, so that every sequence number stays the target's own.
 * A status of the target's other than GOOD goes through as it is.
 */

#include <arpa/inet.h>
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNS 256
#define MAX_MARKS 512
#define BUF_LIMIT (4u << 20)
#define BHS_LEN 48
#define POLL_MS 20

enum { OP_SCSI_CMD = 0x01, OP_DATA_OUT = 0x05 };
enum { OP_SCSI_RSP = 0x21, OP_LOGIN_RSP = 0x23, OP_DATA_IN = 0x25 };
enum { CLIENT, TARGET };
enum at { AT_ANY, AT_COMMAND, AT_ANSWER, AT_HEADER };
enum match_op { MATCH_ANY = -1, MATCH_READ = -2, MATCH_WRITE = -3, MATCH_SYNC = -4 };

enum fault_id {
	F_CUT, F_DROP, F_BUSY, F_UA, F_SENSE, F_SHORT, F_FLIP,
	F_STALL, F_SLOW, F_REFUSE, F_REPORT,
	N_FAULTS
};

static const char *const fault_names[N_FAULTS] = {
	[F_CUT] = "cut",     [F_DROP] = "drop",   [F_BUSY] = "busy",
	[F_UA] = "ua",       [F_SENSE] = "sense", [F_SHORT] = "short",
	[F_FLIP] = "flip",   [F_STALL] = "stall", [F_SLOW] = "slow",
	[F_REFUSE] = "refuse", [F_REPORT] = "report",
};

struct fault {
	bool armed;
	ino_t ino;
	struct timespec mtime;
	uint64_t count, after;
	double rate;
	int op;			/* enum match_op, or an operation code */
	uint64_t lba_first, lba_last;
	bool has_lba;
	enum at at;
	unsigned int status, key, asc, ascq;
	uint64_t blocks;	/* UINT64_MAX: half */
	uint64_t bytes_per_second;
	bool existing;
};

/* A SCSI command in flight to whose answer something is done. */
struct mark {
	enum { MARK_FREE, MARK_DROP, MARK_STATUS, MARK_FLIP, MARK_FLIP_HEADER, MARK_CUT } what;
	uint32_t itt;
	uint32_t edtl;
	uint8_t status, key, asc, ascq;
	uint64_t info;
};

struct buf {
	uint8_t *p;
	size_t len, cap;
};

struct side {
	int fd;
	bool eof;
	struct buf in, out;
};

struct conn {
	bool used;
	bool closing;		/* send what is in the out buffers, then close */
	bool header_digest, data_digest;	/* in force */
	bool want_header_digest, want_data_digest;	/* negotiated */
	struct side side[2];
	struct mark marks[MAX_MARKS];
};

struct cmd {
	uint8_t op;
	bool is_read, is_write;
	uint64_t lba, blocks;
};

static struct {
	uint64_t connections, commands, reads, read_bytes, writes, write_bytes, syncs;
	uint64_t unmaps, header_digests, fired;
} stats;

static struct fault faults[N_FAULTS];
static struct conn *conns[MAX_CONNS];
static const char *control;
static struct sockaddr_in target_addr;
static uint64_t rng_state;
static double slow_budget;
static volatile sig_atomic_t stop_wanted;

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *fmt, ...)
{
	struct timespec ts;
	va_list ap;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	fprintf(stderr, "%ld.%03ld iscsi-proxy: ", (long)ts.tv_sec, ts.tv_nsec / 1000000);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* xorshift64* */
static uint64_t rng(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * 0x2545f4914f6cdd1dULL;
}

static uint64_t get_be(const uint8_t *p, int n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | *p++;
	return v;
}

static void put_be(uint8_t *p, int n, uint64_t v)
{
	while (n--) {
		p[n] = (uint8_t)v;
		v >>= 8;
	}
}

static uint32_t crc32c(const uint8_t *p, size_t len)
{
	uint32_t crc = ~0u;

	while (len--) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

static void put_crc(uint8_t *p, uint32_t crc)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(crc >> 8 * i);
}

/* ---- buffers ---- */

static void buf_reserve(struct buf *b, size_t len)
{
	if (b->len + len <= b->cap)
		return;
	b->cap = (b->len + len) * 2;
	b->p = realloc(b->p, b->cap);
	if (!b->p)
		err(1, "realloc");
}

static void buf_add(struct buf *b, const void *p, size_t len)
{
	buf_reserve(b, len);
	memcpy(b->p + b->len, p, len);
	b->len += len;
}

static void buf_shift(struct buf *b, size_t len)
{
	b->len -= len;
	memmove(b->p, b->p + len, b->len);
}

/* ---- faults ---- */

static void path_of(char *path, size_t size, const char *name)
{
	if (snprintf(path, size, "%s/%s", control, name) >= (int)size)
		errx(1, "%s: the path is too long", control);
}

static void fault_set(struct fault *f, const char *name, const char *key, const char *value)
{
	char *end;
	uint64_t n = strtoull(value, &end, 0);
	bool number = end != value && !*end;

	if (!strcmp(key, "count") && number) {
		f->count = n;
	} else if (!strcmp(key, "after") && number) {
		f->after = n;
	} else if (!strcmp(key, "rate")) {
		f->rate = strtod(value, &end);
		number = !*end;
		if (!number)
			errx(1, "%s: rate=%s is no number", name, value);
	} else if (!strcmp(key, "op")) {
		f->op = number ? (int)n :
			!strcmp(value, "read") ? MATCH_READ :
			!strcmp(value, "write") ? MATCH_WRITE :
			!strcmp(value, "sync") ? MATCH_SYNC :
			!strcmp(value, "any") ? MATCH_ANY : -99;
		if (f->op == -99)
			errx(1, "%s: op=%s is unknown", name, value);
	} else if (!strcmp(key, "lba")) {
		f->has_lba = true;
		f->lba_first = f->lba_last = strtoull(value, &end, 0);
		if (*end == '-')
			f->lba_last = strtoull(end + 1, &end, 0);
		if (*end)
			errx(1, "%s: lba=%s is no range", name, value);
	} else if (!strcmp(key, "at")) {
		f->at = !strcmp(value, "command") ? AT_COMMAND :
			!strcmp(value, "answer") ? AT_ANSWER :
			!strcmp(value, "header") ? AT_HEADER : AT_ANY;
		if (f->at == AT_ANY && strcmp(value, "any"))
			errx(1, "%s: at=%s is unknown", name, value);
	} else if (!strcmp(key, "status")) {
		f->status = number ? (unsigned int)n :
			!strcmp(value, "busy") ? 0x08 :
			!strcmp(value, "full") ? 0x28 : 0xff;
		if (f->status == 0xff)
			errx(1, "%s: status=%s is unknown", name, value);
	} else if (!strcmp(key, "key") && number) {
		f->key = (unsigned int)n;
	} else if (!strcmp(key, "asc") && number) {
		f->asc = (unsigned int)n;
	} else if (!strcmp(key, "ascq") && number) {
		f->ascq = (unsigned int)n;
	} else if (!strcmp(key, "blocks") && number) {
		f->blocks = n;
	} else if (!strcmp(key, "bytes_per_second") && number) {
		f->bytes_per_second = n;
	} else if (!strcmp(key, "existing") && number) {
		f->existing = n;
	} else {
		errx(1, "%s: cannot read %s=%s", name, key, value);
	}
}

static void fault_load(struct fault *f, enum fault_id id, const char *path)
{
	char text[1024];
	FILE *file = fopen(path, "re");
	size_t len;
	char *save = NULL;

	if (!file)
		return;
	len = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[len] = '\0';

	f->armed = true;
	f->count = 1;
	f->after = 0;
	f->rate = 100;
	f->op = MATCH_ANY;
	f->has_lba = false;
	f->at = AT_ANY;
	f->status = id == F_BUSY ? 0x08 : 0x02;
	f->key = id == F_UA ? 0x06 : 0x03;
	f->asc = id == F_UA ? 0x29 : 0x11;
	f->ascq = 0;
	f->blocks = UINT64_MAX;
	f->bytes_per_second = 1 << 20;
	f->existing = false;
	for (char *w = strtok_r(text, " \t\n", &save); w; w = strtok_r(NULL, " \t\n", &save)) {
		char *eq = strchr(w, '=');

		if (!eq)
			errx(1, "%s: \"%s\" is not key=value", fault_names[id], w);
		*eq = '\0';
		fault_set(f, fault_names[id], w, eq + 1);
	}
	say("%s is armed", fault_names[id]);
}

static void faults_refresh(void)
{
	char path[PATH_MAX];
	struct stat st;

	for (int i = 0; i < N_FAULTS; i++) {
		struct fault *f = &faults[i];

		path_of(path, sizeof(path), fault_names[i]);
		if (stat(path, &st) < 0) {
			if (f->armed)
				say("%s is disarmed", fault_names[i]);
			f->armed = false;
			f->ino = 0;
			continue;
		}
		if (st.st_ino == f->ino && st.st_mtim.tv_sec == f->mtime.tv_sec &&
		    st.st_mtim.tv_nsec == f->mtime.tv_nsec)
			continue;
		f->ino = st.st_ino;
		f->mtime = st.st_mtim;
		fault_load(f, (enum fault_id)i, path);
	}
}

static bool fault_matches(const struct fault *f, const struct cmd *c)
{
	if (!c)
		return f->op == MATCH_ANY && !f->has_lba;
	if (f->op == MATCH_READ && !c->is_read)
		return false;
	if (f->op == MATCH_WRITE && !c->is_write)
		return false;
	if (f->op == MATCH_SYNC && c->op != 0x35 && c->op != 0x91)
		return false;
	if (f->op >= 0 && f->op != c->op)
		return false;
	if (f->has_lba) {
		if (!c->is_read && !c->is_write)
			return false;
		if (!c->blocks || c->lba > f->lba_last || c->lba + c->blocks <= f->lba_first)
			return false;
	}
	return true;
}

/* Does the fault fire now, for this command (NULL: for another PDU)? */
static bool fault_fires(enum fault_id id, const struct cmd *c)
{
	struct fault *f = &faults[id];
	char path[PATH_MAX];

	if (!f->armed || !fault_matches(f, c))
		return false;
	if (f->after) {
		f->after--;
		return false;
	}
	if (f->rate < 100 && (double)(rng() % 1000000) >= f->rate * 10000)
		return false;
	stats.fired++;
	if (c)
		say("%s: operation 0x%02x, block %llu, %llu blocks", fault_names[id], c->op,
		    (unsigned long long)c->lba, (unsigned long long)c->blocks);
	else
		say("%s", fault_names[id]);
	if (f->count && !--f->count) {
		f->armed = false;
		path_of(path, sizeof(path), fault_names[id]);
		unlink(path);
	}
	return true;
}

/* ---- PDUs ---- */

/* The length of the PDU at p with all digests, or 0 while its header is not here. */
static size_t pdu_len(const struct conn *c, const uint8_t *p, size_t have)
{
	size_t data;

	if (have < BHS_LEN)
		return 0;
	data = get_be(p + 5, 3);
	return BHS_LEN + p[4] * 4u + (c->header_digest ? 4 : 0) + ((data + 3) & ~(size_t)3) +
	       (c->data_digest && data ? 4 : 0);
}

static size_t pdu_data_offset(const struct conn *c, const uint8_t *p)
{
	return BHS_LEN + p[4] * 4u + (c->header_digest ? 4 : 0);
}

static void pdu_sign_header(const struct conn *c, uint8_t *p)
{
	size_t len = BHS_LEN + p[4] * 4u;

	if (c->header_digest)
		put_crc(p + len, crc32c(p, len));
}

/* Adds a PDU made here: a header (no AHS) and data of a length divisible by 4. */
static void pdu_add(const struct conn *c, struct buf *out, const uint8_t *bhs,
		    const uint8_t *data, size_t len)
{
	uint8_t digest[4];

	buf_add(out, bhs, BHS_LEN);
	if (c->header_digest) {
		put_crc(digest, crc32c(bhs, BHS_LEN));
		buf_add(out, digest, 4);
	}
	if (!len)
		return;
	buf_add(out, data, len);
	if (c->data_digest) {
		put_crc(digest, crc32c(data, len));
		buf_add(out, digest, 4);
	}
}

static struct mark *mark_find(struct conn *c, uint32_t itt)
{
	for (int i = 0; i < MAX_MARKS; i++)
		if (c->marks[i].what != MARK_FREE && c->marks[i].itt == itt)
			return &c->marks[i];
	return NULL;
}

static struct mark *mark_new(struct conn *c, uint32_t itt)
{
	for (int i = 0; i < MAX_MARKS; i++) {
		if (c->marks[i].what != MARK_FREE)
			continue;
		memset(&c->marks[i], 0, sizeof(c->marks[i]));
		c->marks[i].itt = itt;
		return &c->marks[i];
	}
	errx(1, "more than %d marked commands in flight", MAX_MARKS);
}

/* SBC: the commands with a block address. */
static void cmd_parse(struct cmd *c, const uint8_t *cdb)
{
	memset(c, 0, sizeof(*c));
	c->op = cdb[0];
	switch (c->op) {
	case 0x28: case 0x2a: case 0x2e: case 0x41:
		c->lba = get_be(cdb + 2, 4);
		c->blocks = get_be(cdb + 7, 2);
		break;
	case 0xa8: case 0xaa:
		c->lba = get_be(cdb + 2, 4);
		c->blocks = get_be(cdb + 6, 4);
		break;
	case 0x88: case 0x8a: case 0x8e: case 0x93:
		c->lba = get_be(cdb + 2, 8);
		c->blocks = get_be(cdb + 10, 4);
		break;
	}
	c->is_read = c->op == 0x28 || c->op == 0xa8 || c->op == 0x88;
	c->is_write = c->blocks && !c->is_read;
}

static void cmd_count(const struct cmd *c, uint32_t edtl)
{
	stats.commands++;
	if (c->is_read) {
		stats.reads++;
		stats.read_bytes += edtl;
	} else if (c->op == 0x42) {
		stats.unmaps++;
	} else if (c->is_write) {
		stats.writes++;
		stats.write_bytes += edtl;
	} else if (c->op == 0x35 || c->op == 0x91) {
		stats.syncs++;
	}
}

static void cmd_shorten(struct conn *conn, uint8_t *p, const struct cmd *c)
{
	uint64_t blocks = c->blocks / 2;
	uint8_t *cdb = p + 32;

	if (faults[F_SHORT].blocks < c->blocks)
		blocks = faults[F_SHORT].blocks;
	if (c->op == 0x28)
		put_be(cdb + 7, 2, blocks);
	else
		put_be(cdb + (c->op == 0xa8 ? 6 : 10), 4, blocks);
	pdu_sign_header(conn, p);
}

/* Sends TEST UNIT READY under the command's own numbers. */
static void cmd_replace(struct conn *conn, const uint8_t *p, const struct cmd *c,
			enum fault_id id)
{
	const struct fault *f = &faults[id];
	struct mark *m = mark_new(conn, (uint32_t)get_be(p + 16, 4));
	uint8_t bhs[BHS_LEN];

	m->what = MARK_STATUS;
	m->edtl = (uint32_t)get_be(p + 20, 4);
	m->status = (uint8_t)f->status;
	m->key = (uint8_t)f->key;
	m->asc = (uint8_t)f->asc;
	m->ascq = (uint8_t)f->ascq;
	m->info = f->has_lba && f->lba_first > c->lba ? f->lba_first : c->lba;

	memcpy(bhs, p, BHS_LEN);
	bhs[1] = 0x80 | (p[1] & 0x07);
	memset(bhs + 4, 0, 4);
	memset(bhs + 20, 0, 4);
	memset(bhs + 32, 0, 16);
	pdu_add(conn, &conn->side[TARGET].out, bhs, NULL, 0);
}

/* The answer to what cmd_replace() sent, with the status that was wanted. */
static void answer_replaced(struct conn *conn, const uint8_t *p, const struct mark *m)
{
	uint8_t bhs[BHS_LEN];
	uint8_t sense[20] = { 0 };
	size_t len = 0;

	memcpy(bhs, p, BHS_LEN);
	bhs[3] = m->status;
	memset(bhs + 4, 0, 4);
	bhs[1] = 0x80;
	if (m->edtl) {
		bhs[1] |= 0x02;
		put_be(bhs + 44, 4, m->edtl);
	}
	if (m->status == 0x02) {
		len = sizeof(sense);
		put_be(sense, 2, 18);
		sense[2] = m->key == 0x03 ? 0xf0 : 0x70;
		sense[4] = m->key;
		if (m->key == 0x03)
			put_be(sense + 5, 4, m->info);
		sense[9] = 10;
		sense[14] = m->asc;
		sense[15] = m->ascq;
		put_be(bhs + 5, 3, len);
	}
	pdu_add(conn, &conn->side[CLIENT].out, bhs, sense, len);
}

static void conn_cut(struct conn *conn, int to, const uint8_t *p, size_t len)
{
	buf_add(&conn->side[to].out, p, len / 2);
	conn->closing = true;
}

static void command_pdu(struct conn *conn, uint8_t *p, size_t len)
{
	uint32_t itt = (uint32_t)get_be(p + 16, 4);
	struct mark *m = mark_find(conn, itt);
	struct cmd c;

	if (m)
		m->what = MARK_FREE;
	cmd_parse(&c, p + 32);
	cmd_count(&c, (uint32_t)get_be(p + 20, 4));

	if (faults[F_CUT].at != AT_ANSWER && fault_fires(F_CUT, &c)) {
		conn_cut(conn, TARGET, p, len);
		return;
	}
	if (fault_fires(F_BUSY, &c)) {
		cmd_replace(conn, p, &c, F_BUSY);
		return;
	}
	if (fault_fires(F_UA, &c)) {
		cmd_replace(conn, p, &c, F_UA);
		return;
	}
	if (fault_fires(F_SENSE, &c)) {
		cmd_replace(conn, p, &c, F_SENSE);
		return;
	}
	if (fault_fires(F_DROP, &c)) {
		if (faults[F_DROP].at == AT_COMMAND)
			return;
		mark_new(conn, itt)->what = MARK_DROP;
	} else if (faults[F_CUT].at == AT_ANSWER && fault_fires(F_CUT, &c)) {
		mark_new(conn, itt)->what = MARK_CUT;
	} else if (c.is_read && fault_fires(F_FLIP, &c)) {
		mark_new(conn, itt)->what = faults[F_FLIP].at == AT_HEADER ?
			MARK_FLIP_HEADER : MARK_FLIP;
	}
	if (c.is_read && fault_fires(F_SHORT, &c))
		cmd_shorten(conn, p, &c);
	buf_add(&conn->side[TARGET].out, p, len);
}

static void pdu_from_client(struct conn *conn, uint8_t *p, size_t len)
{
	uint8_t op = p[0] & 0x3f;
	struct mark *m;

	if (op == OP_SCSI_CMD) {
		command_pdu(conn, p, len);
		return;
	}
	if (op == OP_DATA_OUT) {
		/* Unsolicited data of a command that did not go on. */
		m = mark_find(conn, (uint32_t)get_be(p + 16, 4));
		if (m && m->what == MARK_STATUS)
			return;
	}
	if (faults[F_CUT].at == AT_ANY && fault_fires(F_CUT, NULL)) {
		conn_cut(conn, TARGET, p, len);
		return;
	}
	buf_add(&conn->side[TARGET].out, p, len);
}

/* RFC 7143 section 13: digests begin with the PDU after the last login response. */
static void login_answer(struct conn *conn, const uint8_t *p)
{
	size_t len = get_be(p + 5, 3);
	const char *text = (const char *)p + BHS_LEN + p[4] * 4u;

	for (size_t i = 0; i < len; i += strnlen(text + i, len - i) + 1) {
		size_t n = strnlen(text + i, len - i);

		if (n == 19 && !memcmp(text + i, "HeaderDigest=CRC32C", n))
			conn->want_header_digest = true;
		if (n == 17 && !memcmp(text + i, "DataDigest=CRC32C", n))
			conn->want_data_digest = true;
	}
	if ((p[1] & 0x83) == 0x83 && !p[36]) {
		stats.header_digests += conn->want_header_digest;
		conn->header_digest = conn->want_header_digest;
		conn->data_digest = conn->want_data_digest;
	}
}

static void pdu_from_target(struct conn *conn, uint8_t *p, size_t len)
{
	uint8_t op = p[0] & 0x3f;
	struct mark *m = NULL;
	bool last = op == OP_SCSI_RSP || (op == OP_DATA_IN && p[1] & 0x01);

	if (op == OP_SCSI_RSP || op == OP_DATA_IN)
		m = mark_find(conn, (uint32_t)get_be(p + 16, 4));
	if (faults[F_CUT].at == AT_ANY && fault_fires(F_CUT, NULL)) {
		conn_cut(conn, CLIENT, p, len);
		return;
	}
	if (m && m->what == MARK_CUT) {
		conn_cut(conn, CLIENT, p, len);
		return;
	}
	if (m && m->what == MARK_DROP) {
		if (last)
			m->what = MARK_FREE;
		return;
	}
	if (m && m->what == MARK_STATUS && op == OP_SCSI_RSP) {
		m->what = MARK_FREE;
		if (!p[2] && !p[3]) {
			answer_replaced(conn, p, m);
			return;
		}
	}
	if (m && m->what == MARK_FLIP && get_be(p + 5, 3)) {
		p[pdu_data_offset(conn, p) + rng() % get_be(p + 5, 3)] ^= 1 << rng() % 8;
		m->what = MARK_FREE;
	}
	if (m && m->what == MARK_FLIP_HEADER) {
		p[40 + rng() % 4] ^= 1 << rng() % 8;
		m->what = MARK_FREE;
	}
	buf_add(&conn->side[CLIENT].out, p, len);
	if (op == OP_LOGIN_RSP)
		login_answer(conn, p);
}

static void conn_forward(struct conn *conn, int from)
{
	struct buf *in = &conn->side[from].in;
	size_t done = 0, len;

	while (!conn->closing && (len = pdu_len(conn, in->p + done, in->len - done)) &&
	       len <= in->len - done) {
		if (from == CLIENT)
			pdu_from_client(conn, in->p + done, len);
		else
			pdu_from_target(conn, in->p + done, len);
		done += len;
	}
	if (done)
		buf_shift(in, done);
}

/* ---- connections ---- */

static void conn_close(struct conn *conn)
{
	for (int i = 0; i < 2; i++) {
		struct side *s = &conn->side[i];

		if (s->fd >= 0)
			close(s->fd);
		free(s->in.p);
		free(s->out.p);
	}
	for (int i = 0; i < MAX_CONNS; i++)
		if (conns[i] == conn)
			conns[i] = NULL;
	free(conn);
}

static void conn_accept(int listener)
{
	int one = 1;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct conn *conn;
	int slot;

	if (fd < 0)
		return;
	for (slot = 0; slot < MAX_CONNS && conns[slot]; slot++)
		;
	if (faults[F_REFUSE].armed || slot == MAX_CONNS) {
		close(fd);
		return;
	}
	conn = calloc(1, sizeof(*conn));
	if (!conn)
		err(1, "calloc");
	stats.connections++;
	conn->side[CLIENT].fd = fd;
	conn->side[TARGET].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (conn->side[TARGET].fd < 0)
		err(1, "socket");
	for (int i = 0; i < 2; i++)
		setsockopt(conn->side[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	conns[slot] = conn;
	if (connect(conn->side[TARGET].fd, (struct sockaddr *)&target_addr,
		    sizeof(target_addr)) < 0 && errno != EINPROGRESS)
		conn_close(conn);
}

/* Reads what there is; false when the connection is over. */
static bool side_read(struct conn *conn, int which)
{
	struct side *s = &conn->side[which];
	size_t want = 256 * 1024;
	ssize_t n;

	if (which == TARGET && faults[F_SLOW].armed) {
		if (slow_budget < 1)
			return true;
		if (want > slow_budget)
			want = (size_t)slow_budget;
	}
	buf_reserve(&s->in, want);
	n = recv(s->fd, s->in.p + s->in.len, want, 0);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (!n)
		return false;
	if (which == TARGET && faults[F_SLOW].armed)
		slow_budget -= (double)n;
	s->in.len += (size_t)n;
	conn_forward(conn, which);
	return true;
}

static bool side_write(struct side *s)
{
	ssize_t n = send(s->fd, s->out.p, s->out.len, MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR || errno == ENOTCONN;
	buf_shift(&s->out, (size_t)n);
	return true;
}

/* One turn for one connection.  revents may be NULL: nothing was polled. */
static void conn_turn(struct conn *conn, const short *revents)
{
	for (int i = 0; i < 2; i++) {
		struct side *s = &conn->side[i];

		if (!s->eof && !conn->closing && revents[i] & (POLLIN | POLLHUP | POLLERR) &&
		    !side_read(conn, i)) {
			s->eof = true;
			conn->closing = true;
		}
	}
	for (int i = 0; i < 2; i++) {
		struct side *s = &conn->side[i];

		if (s->out.len && !s->eof && !side_write(s)) {
			s->eof = true;
			conn->closing = true;
		}
	}
	if (conn->closing && (conn->side[CLIENT].eof || !conn->side[CLIENT].out.len) &&
	    (conn->side[TARGET].eof || !conn->side[TARGET].out.len))
		conn_close(conn);
}

static void report(void)
{
	char path[PATH_MAX], tmp[PATH_MAX];
	FILE *file;

	path_of(tmp, sizeof(tmp), ".stats");
	path_of(path, sizeof(path), "stats");
	file = fopen(tmp, "we");
	if (!file)
		err(1, "%s", tmp);
	fprintf(file, "connections %llu\ncommands %llu\nreads %llu\nread_bytes %llu\n"
		"writes %llu\nwrite_bytes %llu\nsyncs %llu\nunmaps %llu\n"
		"header_digests %llu\nfired %llu\n",
		(unsigned long long)stats.connections, (unsigned long long)stats.commands,
		(unsigned long long)stats.reads, (unsigned long long)stats.read_bytes,
		(unsigned long long)stats.writes, (unsigned long long)stats.write_bytes,
		(unsigned long long)stats.syncs, (unsigned long long)stats.unmaps,
		(unsigned long long)stats.header_digests, (unsigned long long)stats.fired);
	fclose(file);
	if (rename(tmp, path) < 0)
		err(1, "%s", path);
	path_of(path, sizeof(path), "report");
	unlink(path);
	faults[F_REPORT].armed = false;
}

static void slow_refill(void)
{
	static struct timespec last;
	struct timespec now;
	double rate = (double)faults[F_SLOW].bytes_per_second;

	clock_gettime(CLOCK_MONOTONIC, &now);
	slow_budget += rate * ((double)(now.tv_sec - last.tv_sec) +
			       (double)(now.tv_nsec - last.tv_nsec) / 1e9);
	if (slow_budget > rate / 4)
		slow_budget = rate / 4;
	last = now;
}

static void loop(int listener)
{
	struct pollfd fds[1 + 2 * MAX_CONNS];
	struct conn *polled[MAX_CONNS];

	while (!stop_wanted) {
		int n = 1, slots = 0;

		faults_refresh();
		if (faults[F_REPORT].armed)
			report();
		if (faults[F_SLOW].armed)
			slow_refill();
		fds[0] = (struct pollfd){ .fd = listener, .events = POLLIN };
		for (int i = 0; i < MAX_CONNS; i++) {
			struct conn *conn = conns[i];

			if (!conn)
				continue;
			if (faults[F_REFUSE].armed && faults[F_REFUSE].existing) {
				conn_close(conn);
				continue;
			}
			if (faults[F_STALL].armed)
				continue;
			for (int s = 0; s < 2; s++) {
				struct side *side = &conn->side[s];
				bool full = conn->side[!s].out.len > BUF_LIMIT ||
					    (s == TARGET && faults[F_SLOW].armed &&
					     slow_budget < 1);

				/* -1: a descriptor with no events would report POLLHUP for ever */
				fds[n] = (struct pollfd){ .fd = side->fd };
				if (!side->eof && !full && !conn->closing)
					fds[n].events |= POLLIN;
				if (!side->eof && side->out.len)
					fds[n].events |= POLLOUT;
				if (!fds[n].events)
					fds[n].fd = -1;
				n++;
			}
			polled[slots++] = conn;
		}
		if (poll(fds, (nfds_t)n, POLL_MS) < 0) {
			if (errno == EINTR)
				continue;
			err(1, "poll");
		}
		/* What was armed while we slept holds for what woke us. */
		faults_refresh();
		if (fds[0].revents & POLLIN)
			conn_accept(listener);
		if (faults[F_STALL].armed)
			continue;
		for (int i = 0; i < slots; i++) {
			short revents[2] = { fds[1 + 2 * i].revents, fds[2 + 2 * i].revents };

			conn_turn(polled[i], revents);
		}
	}
}

static void on_signal(int sig)
{
	stop_wanted = 1;
}

static void parse_addr(struct sockaddr_in *sin, const char *text)
{
	char host[INET_ADDRSTRLEN];
	const char *colon = strchr(text, ':');
	unsigned long port;
	char *end;

	if (!colon || (size_t)(colon - text) >= sizeof(host))
		errx(2, "\"%s\" is not ADDRESS:PORT", text);
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	port = strtoul(colon + 1, &end, 10);
	memset(sin, 0, sizeof(*sin));
	sin->sin_family = AF_INET;
	if (inet_pton(AF_INET, host, &sin->sin_addr) != 1 || *end || end == colon + 1 ||
	    port > 65535)
		errx(2, "\"%s\" is not ADDRESS:PORT", text);
	sin->sin_port = htons((uint16_t)port);
}

static int start_listening(const char *text)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);
	char path[PATH_MAX], tmp[PATH_MAX];
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	FILE *file;

	parse_addr(&sin, text);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
		err(1, "socket");
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 || listen(fd, 128) < 0)
		err(1, "%s", text);
	if (getsockname(fd, (struct sockaddr *)&sin, &len) < 0)
		err(1, "getsockname");
	path_of(tmp, sizeof(tmp), ".port");
	path_of(path, sizeof(path), "port");
	file = fopen(tmp, "we");
	if (!file)
		err(1, "%s", tmp);
	fprintf(file, "%u\n", ntohs(sin.sin_port));
	fclose(file);
	if (rename(tmp, path) < 0)
		err(1, "%s", path);
	return fd;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "connect", required_argument, NULL, 'c' },
		{ "control", required_argument, NULL, 'd' },
		{ "seed", required_argument, NULL, 's' },
		{ 0 }
	};
	const char *listen_on = NULL, *connect_to = NULL;
	uint64_t seed = (uint64_t)time(NULL);
	int opt, listener;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'l':
			listen_on = optarg;
			break;
		case 'c':
			connect_to = optarg;
			break;
		case 'd':
			control = optarg;
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		default:
			return 2;
		}
	}
	if (!listen_on || !connect_to || !control || optind < argc)
		errx(2, "usage: iscsi-proxy --listen ADDRESS:PORT --connect ADDRESS:PORT "
			"--control DIR [--seed N]\n"
			"PORT 0 listens on a free one; it stands in DIR/port");
	parse_addr(&target_addr, connect_to);
	rng_state = seed * 0x9e3779b97f4a7c15ULL | 1;
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	listener = start_listening(listen_on);
	say("seed %llu", (unsigned long long)seed);
	loop(listener);
	for (int i = 0; i < MAX_CONNS; i++)
		if (conns[i])
			conn_close(conns[i]);
	close(listener);
	return 0;
}
