/* SPDX-License-Identifier: BSD-2-Clause */

/* Mapfiles: what is written is read again as ddrescue does, and says of no byte that it
 * has arrived which has not. */

#include "engine/mapfile.h"

#include <errno.h>

#include "conf/cleanup.h"
#include "tests/unit.h"

enum { CHUNK = 65536, PAGE = 1024 };

/* A map in memory. */
struct bits {
	unsigned char *set;
	const bool *lacks_page; /* of these nothing is known; or NULL */
	uint64_t n_calls;
};

static int64_t run(void *opaque, uint64_t chunk, uint64_t max, bool *ret_set)
{
	struct bits *bits = opaque;
	uint64_t n = 0;

	bits->n_calls++;
	if (bits->lacks_page && bits->lacks_page[chunk / PAGE])
		return -EAGAIN;
	*ret_set = bits->set[chunk];
	while (n < max && bits->set[chunk + n] == bits->set[chunk] &&
	       !(bits->lacks_page && bits->lacks_page[(chunk + n) / PAGE]))
		n++;
	return (int64_t)n;
}

struct block {
	uint64_t offset, length;
	char status;
};

static struct block blocks[MAPFILE_MAX_LINES + 16];
static size_t n_blocks;

/* The way of ddrescue: comments, a line of state, blocks. */
static void parse(const char *text)
{
	bool state = false;
	unsigned pass;
	char status;
	uint64_t at;

	for (n_blocks = 0; *text; text += strcspn(text, "\n") + 1) {
		if (*text == '#')
			continue;
		if (!state) {
			ck_assert_int_eq(sscanf(text, "0x%" SCNx64 " %c %u\n", &at,
						&status, &pass),
					 3);
			state = true;
			continue;
		}
		if (n_blocks == ROWS(blocks) ||
		    sscanf(text, "0x%" SCNx64 "  0x%" SCNx64 "  %c\n",
			   &blocks[n_blocks].offset, &blocks[n_blocks].length,
			   &blocks[n_blocks].status) != 3)
			ck_abort_msg("no block, or one too many: %.40s", text);
		n_blocks++;
	}
	ck_assert(state);
}

/* Without gaps, in order, to the end; neighbours differ. */
static void check_order(uint64_t size)
{
	uint64_t at = 0;

	for (size_t i = 0; i < n_blocks; i++) {
		if (blocks[i].offset != at || !blocks[i].length ||
		    (i && blocks[i].status == blocks[i - 1].status))
			ck_abort_msg("block %zu is wrong", i);
		at += blocks[i].length;
	}
	ck_assert_uint_eq(at, size);
}

/* Whether a block is true; with exact every truth is +. */
static bool is_true(const struct bits *bits, const struct block *block, bool exact)
{
	uint64_t end = block->offset + block->length;

	for (uint64_t c = block->offset / CHUNK; c * CHUNK < end; c++) {
		bool set =
			bits->set[c] && !(bits->lacks_page && bits->lacks_page[c / PAGE]);

		if (block->status == '+' ? !set : exact && set)
			return false;
	}
	return true;
}

static void check_blocks(const struct bits *bits, const struct mapfile_params *p,
			 bool exact)
{
	bool right = true;

	for (size_t i = 0; i < n_blocks && right; i++) {
		right = is_true(bits, &blocks[i], exact);
		if (blocks[i].status == '-')
			right = right && blocks[i].offset >= p->bad_offset &&
				blocks[i].offset + blocks[i].length <=
					p->bad_offset + p->bad_length;
	}
	ck_assert(right);
}

static void render(const struct mapfile_params *p)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;

	mapfile_render(p, &b);
	ck_assert(!b.failed);
	parse(b.s);
	check_order(p->size);
}

static const char *text_of(const struct mapfile_params *p)
{
	static char text[1024];
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;

	mapfile_render(p, &b);
	snprintf(text, sizeof(text), "%s", b.s);
	return text;
}

START_TEST(a_mapfile_has_the_form_of_ddrescue)
{
	unsigned char set[4] = { 1, 1, 0, 1 };
	struct bits bits = { set };
	struct mapfile_params p = { .size = 4 * CHUNK - 512,
				    .chunk_size = CHUNK,
				    .run = run,
				    .opaque = &bits,
				    .unknown_chunks = PAGE };

	ck_assert_str_eq(text_of(&p), "# Mapfile. Created by LunFS\n"
				      "# current_pos  current_status  current_pass\n"
				      "0x00020000     ?               1\n"
				      "#      pos        size  status\n"
				      "0x00000000  0x00020000  +\n"
				      "0x00020000  0x00010000  ?\n"
				      "0x00030000  0x0000FE00  +\n");
	p.bad_offset = 2 * CHUNK + 4096;
	p.bad_length = 512;
	ck_assert_ptr_nonnull(strstr(text_of(&p), "0x00020000  0x00001000  ?\n"
						  "0x00021000  0x00000200  -\n"
						  "0x00021200  0x0000EE00  ?\n"
						  "0x00030000  0x0000FE00  +\n"));
	/* It has arrived since. */
	set[2] = 1;
	ck_assert_ptr_nonnull(strstr(text_of(&p), "\n0x00000000     +               1\n"
						  "#      pos        size  status\n"
						  "0x00000000  0x0003FE00  +\n"));
	p.size = 0;
	ck_assert_ptr_nonnull(strstr(text_of(&p), "status\n"));
}
END_TEST

/* Runs of a length around `mean`. */
static void fill(struct unit_random *random, unsigned char *set, uint64_t n,
		 uint64_t mean)
{
	unsigned char value = 0;

	for (uint64_t at = 0; at < n; value = !value) {
		uint64_t len = 1 + unit_random_below(random, 2 * mean - 1);

		len = len < n - at ? len : n - at;
		memset(set + at, value, len);
		at += len;
	}
}

START_TEST(what_is_said_to_have_arrived_has)
{
	struct unit_random random = unit_random_start("what_is_said_to_have_arrived_has");
	enum { MAX = 120000 };
	unsigned char *set = malloc(MAX);
	bool lacks_page[MAX / PAGE + 1];
	unsigned n_exact = 0, n_merged = 0;

	for (unsigned i = 0; i < 40; i++) {
		uint64_t n = 1 + unit_random_below(&random, MAX);
		struct bits bits = { set, i % 3 == 0 ? lacks_page : NULL };
		struct mapfile_params p = {
			.size = n * CHUNK - unit_random_below(&random, CHUNK / 512) * 512,
			.chunk_size = CHUNK,
			.run = run,
			.opaque = &bits,
			.unknown_chunks = PAGE,
			.bad_offset = unit_random_below(&random, n) * CHUNK + 512,
			.bad_length = unit_random_below(&random, 3) * 4096,
		};
		bool merged;

		fill(&random, set, n, i % 2 ? 2 : 1000);
		for (size_t k = 0; k < ROWS(lacks_page); k++)
			lacks_page[k] = unit_random_below(&random, 8) == 0;
		render(&p);
		merged = bits.n_calls > n_blocks + 2 * ROWS(lacks_page) + 2;
		check_blocks(&bits, &p, !merged);
		ck_assert_uint_le(n_blocks, MAPFILE_MAX_LINES + 2);
		ck_assert_uint_le(bits.n_calls, 4 * MAPFILE_MAX_LINES);
		n_exact += !merged;
		n_merged += merged;
	}
	ck_assert_uint_gt(n_exact, 5);
	ck_assert_uint_gt(n_merged, 5);
	free(set);
}
END_TEST

/* Whole stretches stay told, whatever lies between them. */
START_TEST(a_merged_map_still_has_what_is_whole)
{
	enum { N = 1 << 18 };
	unsigned char *set = malloc(N);
	struct bits bits = { set };
	struct mapfile_params p = { .size = (uint64_t)N * CHUNK,
				    .chunk_size = CHUNK,
				    .run = run,
				    .opaque = &bits,
				    .unknown_chunks = PAGE };

	for (unsigned i = 0; i < N; i++)
		set[i] = i < N / 2 || i % 2;
	render(&p);
	ck_assert_uint_eq(n_blocks, 2);
	ck_assert_uint_eq(blocks[0].length, p.size / 2);
	ck_assert_int_eq(blocks[0].status, '+');
	ck_assert_uint_le(bits.n_calls, 2 * MAPFILE_MAX_LINES);
	free(set);
}
END_TEST

START_TEST(a_medium_error_is_found_in_the_sentence)
{
	uint64_t offset = 1, length = 2;
	char text[128];

	snprintf(text, sizeof(text), "db0" MAPFILE_MEDIUM_ERROR, (uint64_t)4096,
		 (uint64_t)8191);
	ck_assert_str_eq(text, "db0: medium error: bytes 4096 to 8191 cannot be read");
	ck_assert(mapfile_parse_error(text, &offset, &length));
	ck_assert_uint_eq(offset, 4096);
	ck_assert_uint_eq(length, 4096);
	ck_assert(!mapfile_parse_error("", &offset, &length));
	ck_assert(!mapfile_parse_error("member db0 broke", &offset, &length));
	ck_assert(!mapfile_parse_error(
		"db0: reading bytes 1 to 2 failed: Input/output error", &offset,
		&length));
	ck_assert_uint_eq(length, 4096);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_mapfile_has_the_form_of_ddrescue,
		what_is_said_to_have_arrived_has,
		a_merged_map_still_has_what_is_whole,
		a_medium_error_is_found_in_the_sentence,
	};

	return unit_main("mapfile", tests, ROWS(tests));
}
