/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/mapfile.h"

#include <stdio.h>
#include <string.h>

#include "conf/cleanup.h"

/* The blocks, as they come; those that touch and are alike become one. */
struct blocks {
	const struct mapfile_params *params;
	struct strbuf b;
	unsigned n; /* lines */
	uint64_t offset, length;
	char status;
	uint64_t missing; /* the first byte that is not +; UINT64_MAX: none */
};

static void flush(struct blocks *bl)
{
	if (!bl->length)
		return;
	strbuf_addf(&bl->b, "0x%08" PRIX64 "  0x%08" PRIX64 "  %c\n", bl->offset,
		    bl->length, bl->status);
	bl->n++;
}

static void add(struct blocks *bl, uint64_t offset, uint64_t end, char status)
{
	if (offset >= end)
		return;
	if (status != '+' && bl->missing > offset)
		bl->missing = offset;
	if (bl->length && bl->status == status) {
		bl->length = end - bl->offset;
		return;
	}
	flush(bl);
	bl->offset = offset;
	bl->length = end - offset;
	bl->status = status;
}

/* What has not arrived, with the bad part in it. */
static void add_missing(struct blocks *bl, uint64_t offset, uint64_t end)
{
	uint64_t bad = bl->params->bad_offset;
	uint64_t bad_end = bad + bl->params->bad_length;

	bad = bad < offset ? offset : bad;
	bad_end = bad_end > end ? end : bad_end;
	if (bad >= bad_end) {
		add(bl, offset, end, '?');
		return;
	}
	add(bl, offset, bad, '?');
	add(bl, bad, bad_end, '-');
	add(bl, bad_end, end, '?');
}

/* The length of the run, of what is not known too. */
static uint64_t run_from(const struct mapfile_params *p, uint64_t chunk, uint64_t max,
			 bool *ret_set)
{
	int64_t n = p->run(p->opaque, chunk, max, ret_set);

	if (n > 0)
		return (uint64_t)n;
	*ret_set = false;
	n = (int64_t)(p->unknown_chunks - chunk % p->unknown_chunks);
	return (uint64_t)n < max ? (uint64_t)n : max;
}

/* How far the next block goes, in whole units: one is + only if all of it is set. */
static uint64_t step(const struct mapfile_params *p, uint64_t chunk, uint64_t left,
		     uint64_t unit, bool *ret_set)
{
	uint64_t n = run_from(p, chunk, left, ret_set);

	if (n < left && *ret_set)
		n -= n % unit;
	else if (n < left)
		n += (unit - n % unit) % unit;
	if (n == 0) {
		*ret_set = false;
		n = unit;
	}
	return n < left ? n : left;
}

/* False: there are too many lines. */
static bool walk(struct blocks *bl, uint64_t unit)
{
	const struct mapfile_params *p = bl->params;
	uint64_t n_chunks = (p->size + p->chunk_size - 1) / p->chunk_size;
	uint64_t chunk = 0;

	while (chunk < n_chunks && bl->n < MAPFILE_MAX_LINES) {
		bool set;
		uint64_t n = step(p, chunk, n_chunks - chunk, unit, &set);
		uint64_t offset = chunk * p->chunk_size, end = offset + n * p->chunk_size;

		chunk += n;
		if (end > p->size)
			end = p->size;
		if (set)
			add(bl, offset, end, '+');
		else
			add_missing(bl, offset, end);
	}
	flush(bl);
	return chunk >= n_chunks;
}

static void begin(struct blocks *bl)
{
	strbuf_reset(&bl->b);
	bl->n = 0;
	bl->length = 0;
	bl->missing = UINT64_MAX;
}

void mapfile_render(const struct mapfile_params *p, struct strbuf *b)
{
	struct blocks bl = { .params = p, .b = STRBUF_INIT };
	uint64_t n_chunks = (p->size + p->chunk_size - 1) / p->chunk_size;
	uint64_t unit = 1;

	begin(&bl);
	if (!walk(&bl, 1)) {
		while (unit * (MAPFILE_MAX_LINES / 2) < n_chunks)
			unit *= 2;
		begin(&bl);
		walk(&bl, unit);
	}
	strbuf_adds(b, "# Mapfile. Created by LunFS\n"
		       "# current_pos  current_status  current_pass\n");
	strbuf_addf(b, "0x%08" PRIX64 "     %c               1\n",
		    bl.missing == UINT64_MAX ? 0 : bl.missing,
		    bl.missing == UINT64_MAX ? '+' : '?');
	strbuf_adds(b, "#      pos        size  status\n");
	strbuf_add(b, bl.b.s, bl.b.len);
	b->failed = b->failed || bl.b.failed;
	strbuf_done(&bl.b);
}

bool mapfile_parse_error(const char *error, uint64_t *ret_offset, uint64_t *ret_length)
{
	const char *at = strchr(error, ':');
	uint64_t first, last;

	if (!at || sscanf(at, MAPFILE_MEDIUM_ERROR, &first, &last) != 2 || last < first)
		return false;
	*ret_offset = first;
	*ret_length = last - first + 1;
	return true;
}
