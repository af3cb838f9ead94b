/* SPDX-License-Identifier: BSD-2-Clause */

/* pairs/N/map and pairs/N/digest, through the whole engine over files. */

#include "tests/unit.h"

#include <errno.h>
#include <inttypes.h>

#include "conf/cim.h"
#include "tests/whole.h"

/* Holds up the copy of element f. */
static const char slow_rules[] = "[slow]\nevent = read\noffset = 2097152\n"
				 "length = 65536\nstall = yes\n";

static bool is_ready(const char *element)
{
	struct element_info info;

	engine_element_info(engine, whole_element(element), &info);
	return info.operational_status == CIM_STATUS_OK;
}

static const char *text_of(uint64_t g, unsigned n, unsigned file)
{
	return whole_list(ENGINE_PAIR, whole_pair(g, n).id, file);
}

/* ---- map ----------------------------------------------------------------------------- */

/* The status of each byte's sector, from the text. */
static char sectors[WHOLE_LUN / 512];

static void read_map(uint64_t g)
{
	const char *text = text_of(g, 1, PAIR_MAP);
	uint64_t at = 0, offset, length;
	unsigned lines = 0;
	char status;

	for (; *text; text += strcspn(text, "\n") + 1) {
		if (*text == '#' || lines++ == 0)
			continue;
		ck_assert_int_eq(sscanf(text, "0x%" SCNx64 " 0x%" SCNx64 " %c\n", &offset,
					&length, &status),
				 3);
		ck_assert_uint_eq(offset, at);
		at += length;
		ck_assert_uint_le(at, WHOLE_LUN);
		memset(sectors + offset / 512, status, length / 512);
	}
	ck_assert_uint_eq(at, WHOLE_LUN);
}

static unsigned count(uint64_t g, char status)
{
	unsigned n = 0;

	read_map(g);
	for (size_t i = 0; i < sizeof(sectors); i++)
		n += sectors[i] == status;
	return n;
}

static char chunk_of(uint64_t g, uint64_t chunk)
{
	read_map(g);
	return sectors[chunk * WHOLE_CHUNK / 512];
}

START_TEST(a_map_follows_the_copy)
{
	uint64_t g;

	whole_setup();
	whole_until(is_ready("f"));
	g = whole_replica("g", "SourceElement=f SyncType=Clone WaitForCopyState=Inactive",
			  0);
	ck_assert_uint_eq(count(g, '?'), sizeof(sectors));
	whole_rules(slow_rules);
	whole_control(g, "Activate", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_UNSYNCHRONIZED);
	whole_until(chunk_of(g, 0) == '+' && chunk_of(g, 63) == '+');
	ck_assert_int_eq(sectors[32 * WHOLE_CHUNK / 512], '?');
	whole_fill("g_1", 2, 9);
	whole_control(g, "Suspend", 0);
	whole_stop();
	whole_rules("");
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_int_eq(chunk_of(g, 0), '+');
	ck_assert_int_eq(chunk_of(g, 32), '?');
	whole_forget();
	whole_control(g, "Resume", 0);
	whole_wait_state(g, CIM_COPY_SKEWED);
	ck_assert_uint_eq(count(g, '+'), sizeof(sectors));
	ck_assert_uint_gt(whole_events(ENGINE_PAIR, whole_pair(g, 1).id, PAIR_MAP), 0);
	/* A complete image is not open. */
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(count(g, '+'), sizeof(sectors));
	whole_teardown();
}
END_TEST

START_TEST(a_map_of_a_snapshot_has_what_its_file_holds)
{
	uint64_t g;

	whole_setup();
	g = whole_replica("g", "SourceElement=a SyncType=Snapshot", 0);
	whole_fill("a", 3, 3);
	ck_assert_uint_eq(count(g, '?'), sizeof(sectors));
	whole_fill("g_1", 5, 5);
	ck_assert_int_eq(chunk_of(g, 5), '+');
	ck_assert_uint_eq(count(g, '+'), WHOLE_CHUNK / 512);
	whole_control(g, "Deactivate", 0);
	ck_assert_uint_eq(count(g, '?'), sizeof(sectors));
	whole_teardown();
}
END_TEST

START_TEST(a_map_of_a_lun_has_the_size_of_the_source)
{
	uint64_t g;

	whole_setup();
	ck_assert_int_eq(truncate(whole_path("c"), 2 * WHOLE_LUN), 0);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	whole_until(is_ready("f") && is_ready("c"));
	whole_group("to", "c");
	whole_rules(slow_rules);
	g = whole_replica("g", "SourceElement=f TargetGroup=to SyncType=Clone",
			  CIM_RETURN_JOB_STARTED);
	whole_until(chunk_of(g, 0) == '+');
	ck_assert_int_eq(chunk_of(g, 32), '?');
	whole_rules("");
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	ck_assert_uint_eq(count(g, '+'), sizeof(sectors));
	whole_teardown();
}
END_TEST

START_TEST(a_medium_error_is_bad_sectors)
{
	enum { BAD = 32 * WHOLE_CHUNK + 4096 };
	uint64_t g;

	whole_setup();
	whole_until(is_ready("f"));
	whole_rules("[bad]\nevent = read\noffset = 2101248\nlength = 1024\n"
		    "errno = ENODATA\n");
	g = whole_replica("g", "SourceElement=f SyncType=Clone", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_BROKEN);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_uint_eq(count(g, '-'), 2);
		ck_assert_int_eq(sectors[BAD / 512 - 1], '?');
		ck_assert_int_eq(sectors[BAD / 512], '-');
		ck_assert_int_eq(sectors[BAD / 512 + 1], '-');
		ck_assert_int_eq(sectors[BAD / 512 + 2], '?');
		whole_stop();
		ck_assert_int_eq(whole_start(), 0);
	}
	whole_rules("");
	whole_until(is_ready("f"));
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	ck_assert_uint_eq(count(g, '+'), sizeof(sectors));
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_map_follows_the_copy,
		a_map_of_a_snapshot_has_what_its_file_holds,
		a_map_of_a_lun_has_the_size_of_the_source,
		a_medium_error_is_bad_sectors,
	};

	return unit_main("side_files", tests, ROWS(tests));
}
