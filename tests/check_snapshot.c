/* SPDX-License-Identifier: BSD-2-Clause */

/* Snapshots and writes to images, through the whole engine over files. */

#include "tests/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "conf/cim.h"
#include "tests/whole.h"

static unsigned char then_a[WHOLE_LUN], then_b[WHOLE_LUN], now[WHOLE_LUN];

static void set_chunk(unsigned char *buf, uint64_t chunk, unsigned char byte)
{
	memset(buf + chunk * WHOLE_CHUNK, byte, WHOLE_CHUNK);
}

/* ---- what a Snapshot says of itself ------------------------------------------------- */

START_TEST(a_snapshot_is_there_at_once)
{
	struct group_info info;
	struct pair_info pair;
	uint64_t g;

	whole_setup();
	whole_content("a", then_a);
	whole_content("b", then_b);
	whole_group("prod", "a b");
	g = whole_replica("snap", "SourceGroup=prod SyncType=Snapshot", 0);
	info = whole_info(g);
	ck_assert_uint_eq(info.copy_state, CIM_COPY_SYNCHRONIZED);
	ck_assert_uint_eq(info.requested_copy_state, CIM_COPY_NOT_APPLICABLE);
	ck_assert_uint_eq(info.progress_status, CIM_PROGRESS_COMPLETED);
	ck_assert_uint_eq(info.percent_synced, 100);
	ck_assert_uint_eq(info.sync_type, CIM_SYNC_SNAPSHOT);
	ck_assert_uint_eq(info.job, 0);
	ck_assert_uint_eq(engine_find(engine, ENGINE_JOB, 0, "1"), 0);
	ck_assert_int_ne(info.when_synced, 0);
	ck_assert_int_eq(info.when_synced, info.when_synchronized);
	ck_assert_int_eq(info.when_synced, info.when_activated);
	ck_assert_uint_eq(info.consistency, CIM_CONSISTENCY_SEQUENTIAL);
	ck_assert_uint_eq(info.consistency_state, CIM_CONSISTENCY_STATE_CONSISTENT);
	ck_assert_str_eq(info.waiting_for, "");
	ck_assert(!info.sync_maintained);
	for (unsigned n = 1; n <= 2; n++) {
		pair = whole_pair(g, n);
		ck_assert_uint_eq(pair.copy_state, CIM_COPY_SYNCHRONIZED);
		ck_assert_uint_eq(pair.percent_synced, 100);
		ck_assert_uint_eq(pair.sync_state, CIM_SYNC_STATE_FROZEN);
		ck_assert_uint_eq(pair.copy_type, CIM_COPY_TYPE_UNSYNC_ASSOC);
		ck_assert_uint_eq(pair.replica_type, CIM_REPLICA_AFTER_DELTA);
		ck_assert_uint_eq(pair.copy_methodology, CIM_METHODOLOGY_COPY_ON_WRITE);
		ck_assert_int_eq(pair.when_synced, info.when_synced);
		ck_assert_uint_eq(pair.bytes_total, WHOLE_LUN);
	}
	/* While the sources are written. */
	for (unsigned i = 0; i < WHOLE_LUN / WHOLE_CHUNK; i += 3) {
		whole_fill("a", i, 0xa1);
		whole_fill("b", i, 0xb1);
	}
	whole_is("snap_1", then_a);
	whole_is("snap_2", then_b);
	whole_content("a", now);
	ck_assert_uint_eq(now[0], 0xa1);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SYNCHRONIZED);
	whole_teardown();
}
END_TEST

START_TEST(lists_name_the_relationship_from_both_sides)
{
	uint64_t prod, g;

	whole_setup();
	prod = whole_group("prod", "a b");
	g = whole_replica("snap", "SourceGroup=prod SyncType=Snapshot", 0);
	ck_assert_str_eq(whole_list(ENGINE_GROUP, prod, GROUP_RELATIONSHIPS),
			 "snap source\n");
	ck_assert_str_eq(whole_list(ENGINE_GROUP, g, GROUP_RELATIONSHIPS),
			 "snap target\n");
	ck_assert_str_eq(whole_list(ENGINE_GROUP, g, GROUP_MEMBERS), "snap_1\nsnap_2\n");
	ck_assert_str_eq(
		whole_list(ENGINE_ELEMENT, whole_element("a"), ELEMENT_RELATIONSHIPS),
		"snap source\n");
	ck_assert_str_eq(whole_list(ENGINE_ELEMENT, whole_element("a"), ELEMENT_GROUPS),
			 "prod\n");
	ck_assert_str_eq(whole_list(ENGINE_ELEMENT, whole_element("snap_2"),
				    ELEMENT_RELATIONSHIPS),
			 "snap target\n");
	ck_assert_str_eq(
		whole_list(ENGINE_ELEMENT, whole_element("snap_2"), ELEMENT_GROUPS),
		"snap\n");
	ck_assert_str_eq(whole_list(ENGINE_POOL, engine_find(engine, ENGINE_POOL, 0, "p"),
				    POOL_IMAGES),
			 "snap_1\nsnap_2\n");
	whole_teardown();
}
END_TEST

/* ---- writes to images ---------------------------------------------------------------- */

START_TEST(a_written_snapshot_is_skewed_at_once)
{
	uint64_t g;

	whole_setup();
	whole_content("a", then_a);
	g = whole_replica("g", "SourceElement=a SyncType=Snapshot", 0);
	whole_forget();
	whole_fill("g_1", 5, 0x55);
	/* The write was answered after this was known. */
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
	ck_assert_uint_eq(whole_pair(g, 1).copy_state, CIM_COPY_SKEWED);
	ck_assert_uint_eq(whole_info(g).percent_synced, 100);
	ck_assert_uint_ge(whole_events(ENGINE_GROUP, g, GROUP_COPY_STATE), 1);
	ck_assert_uint_ge(whole_events(ENGINE_GROUP, g, GROUP_CONTROL), 1);
	ck_assert_uint_ge(whole_events(ENGINE_PAIR, whole_pair(g, 1).id, PAIR_COPY_STATE),
			  1);
	set_chunk(then_a, 5, 0x55);
	whole_is("g_1", then_a);
	whole_fill("a", 5, 0x77);
	whole_is("g_1", then_a);
	whole_teardown();
}
END_TEST

START_TEST(a_group_of_which_one_image_is_written_is_mixed)
{
	struct group_info info;
	uint64_t g;

	whole_setup();
	whole_group("prod", "a b");
	g = whole_replica("g", "SourceGroup=prod SyncType=Snapshot", 0);
	whole_fill("g_2", 1, 1);
	info = whole_info(g);
	ck_assert_uint_eq(info.copy_state, CIM_COPY_MIXED);
	ck_assert_uint_eq(info.percent_synced, 100);
	/* Nothing moves, and nothing is requested. */
	ck_assert_uint_eq(info.requested_copy_state, CIM_COPY_NOT_APPLICABLE);
	ck_assert_int_eq(info.seconds_left, -1);
	whole_fill("g_1", 1, 1);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
	whole_teardown();
}
END_TEST

/* Holds up the copy of element f. */
static const char slow_rules[] = "[slow]\nevent = read\noffset = 2097152\n"
				 "length = 65536\nstall = yes\n";

START_TEST(a_clone_written_while_it_is_copied_is_synchronized_then_skewed)
{
	uint64_t g, since;

	whole_setup();
	whole_content("f", then_a);
	whole_rules(slow_rules);
	g = whole_replica("g", "SourceElement=f SyncType=Clone", CIM_RETURN_JOB_STARTED);
	since = engine_sequence(engine);
	whole_fill("g_1", 60, 0x60);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_UNSYNCHRONIZED);
	whole_rules("");
	whole_wait_state(g, CIM_COPY_SKEWED);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_SYNCHRONIZED, since), 1);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_SKEWED, since), 1);
	ck_assert_int_ne(whole_info(g).when_synchronized, 0);
	set_chunk(then_a, 60, 0x60);
	whole_is("g_1", then_a);
	whole_teardown();
}
END_TEST

START_TEST(a_clone_written_before_a_restart_is_skewed_in_the_end)
{
	uint64_t g;

	whole_setup();
	whole_content("f", then_a);
	whole_rules(slow_rules);
	g = whole_replica("g", "SourceElement=f SyncType=Clone", CIM_RETURN_JOB_STARTED);
	whole_fill("g_1", 60, 0x60);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_UNSYNCHRONIZED);
	whole_rules("");
	whole_wait_state(g, CIM_COPY_SKEWED);
	set_chunk(then_a, 60, 0x60);
	whole_is("g_1", then_a);
	whole_teardown();
}
END_TEST

START_TEST(a_handle_that_was_open_at_the_end_of_the_copy_makes_it_skewed)
{
	struct engine_handle *h;
	uint64_t g;

	whole_setup();
	whole_rules(slow_rules);
	g = whole_replica("g", "SourceElement=f SyncType=Clone", CIM_RETURN_JOB_STARTED);
	h = whole_open("g_1", true);
	whole_rules("");
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	ck_assert_int_eq(whole_write(h, 3, 3), 0);
	ck_assert_uint_eq(whole_state(g), CIM_COPY_SKEWED);
	engine_data_close(h);
	whole_teardown();
}
END_TEST

START_TEST(an_open_image_is_written_after_its_relationship_ended)
{
	struct engine_handle *h;
	uint64_t g;

	whole_setup();
	g = whole_replica(
		"g", "SourceElement=a SyncType=Clone WaitForCopyState=Synchronized", 0);
	h = whole_open("g_1", true);
	whole_control(g, "Detach", 0);
	ck_assert_int_eq(whole_write(h, 3, 3), 0);
	engine_data_close(h);
	whole_teardown();
}
END_TEST

/* ---- the chain ------------------------------------------------------------------------ */

enum { N_SNAPS = 6 };

static unsigned char contents[N_SNAPS][WHOLE_LUN];

static void snap_name(unsigned i, const char *suffix, char *buf, size_t size)
{
	snprintf(buf, size, "s%u%s", i, suffix);
}

START_TEST(snapshots_are_deleted_in_any_order)
{
	struct unit_random random = unit_random_start("snapshots");
	uint64_t groups[N_SNAPS];
	bool there[N_SNAPS] = { false };
	char name[16];

	whole_setup();
	for (unsigned i = 0; i < N_SNAPS; i++) {
		whole_content("a", contents[i]);
		snap_name(i, "", name, sizeof(name));
		groups[i] = whole_replica(name, "SourceElement=a SyncType=Snapshot", 0);
		there[i] = true;
		for (unsigned n = 0; n < 12; n++)
			whole_fill("a", unit_random_below(&random, 64),
				   (unsigned char)(i * 16 + n));
	}
	ck_assert_uint_eq(whole_files("p"), 2 * N_SNAPS);
	for (unsigned left = N_SNAPS; left; left--) {
		unsigned i = (unsigned)unit_random_below(&random, N_SNAPS);

		while (!there[i])
			i = (i + 1) % N_SNAPS;
		whole_control(groups[i], "ReturnToResourcePool", 0);
		there[i] = false;
		snap_name(i, "_1", name, sizeof(name));
		ck_assert_uint_eq(whole_element(name), 0);
		whole_fill("a", unit_random_below(&random, 64), 0xee);
		for (unsigned k = 0; k < N_SNAPS; k++) {
			snap_name(k, "_1", name, sizeof(name));
			if (there[k])
				whole_is(name, contents[k]);
		}
		whole_until(whole_files("p") == 2 * (left - 1));
	}
	whole_until(whole_files("e") == 0);
	whole_teardown();
}
END_TEST

START_TEST(snapshots_are_the_same_after_a_restart)
{
	uint64_t groups[N_SNAPS];
	char name[16];

	whole_setup();
	for (unsigned i = 0; i < N_SNAPS; i++) {
		whole_content("a", contents[i]);
		snap_name(i, "", name, sizeof(name));
		groups[i] = whole_replica(name, "SourceElement=a SyncType=Snapshot", 0);
		whole_fill("a", i, (unsigned char)(0x80 + i));
		whole_fill("a", 20, (unsigned char)(0x80 + i));
	}
	whole_fill("s2_1", 30, 0x30);
	set_chunk(contents[2], 30, 0x30);
	/* One leaves, and the process ends at once. */
	whole_control(groups[3], "ReturnToResourcePool", 0);
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	for (unsigned i = 0; i < N_SNAPS; i++) {
		snap_name(i, "_1", name, sizeof(name));
		if (i == 3)
			continue;
		whole_is(name, contents[i]);
		ck_assert_uint_eq(whole_state(groups[i]),
				  i == 2 ? CIM_COPY_SKEWED : CIM_COPY_SYNCHRONIZED);
		ck_assert_uint_eq(whole_info(groups[i]).percent_synced, 100);
	}
	whole_until(whole_files("p") == 2 * (N_SNAPS - 1));
	whole_fill("a", 40, 0x40);
	whole_is("s5_1", contents[5]);
	whole_is("s0_1", contents[0]);
	whole_teardown();
}
END_TEST

/* What the newer one kept the older one reads: without it, that would show what the
 * source has now. */
START_TEST(a_lost_point_breaks_the_older_ones_too)
{
	uint64_t older, newer, newest;
	unsigned char buf[WHOLE_CHUNK];
	struct engine_handle *h;

	whole_setup();
	older = whole_replica("old", "SourceElement=a SyncType=Snapshot", 0);
	newer = whole_replica("new", "SourceElement=a SyncType=Snapshot", 0);
	whole_fill("a", 0, 0x11);
	newest = whole_replica("top", "SourceElement=a SyncType=Snapshot", 0);
	whole_content("a", then_a);
	whole_stop();
	ck_assert_int_eq(unlink(whole_path("pool/p2.map")), 0);
	ck_assert_int_eq(whole_start(), 0);
	whole_wait_state(newer, CIM_COPY_BROKEN);
	ck_assert_uint_eq(whole_state(older), CIM_COPY_BROKEN);
	ck_assert_uint_eq(whole_state(newest), CIM_COPY_SYNCHRONIZED);
	whole_is("top_1", then_a);
	h = whole_open("old_1", false);
	ck_assert_int_eq(whole_read(h, 0, buf), -EIO);
	engine_data_close(h);
	ck_assert_int_eq(whole_info(older).when_synced, 0);
	ck_assert_ptr_nonnull(strstr(whole_pair(older, 1).error, "pool p"));
	/* Nor does it come back with the next start; what is left can be deleted. */
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_uint_eq(whole_state(older), CIM_COPY_BROKEN);
	whole_is("top_1", then_a);
	whole_control(older, "ReturnToResourcePool", 0);
	whole_control(newer, "ReturnToResourcePool", 0);
	whole_control(newest, "ReturnToResourcePool", 0);
	whole_until(whole_files("p") == 0);
	whole_teardown();
}
END_TEST

static blkcnt_t blocks_of(const char *file)
{
	struct stat st;

	ck_assert_int_eq(stat(whole_path("pool/%s", file), &st), 0);
	return st.st_blocks;
}

START_TEST(a_resync_gives_back_what_was_written_to_the_image)
{
	unsigned char then[WHOLE_LUN];
	uint64_t g, id;
	char file[32];

	whole_setup();
	g = whole_replica("s", "SourceElement=a SyncType=Snapshot", 0);
	id = whole_element("s_1");
	snprintf(file, sizeof(file), "e%llu.raw", (unsigned long long)id);
	for (unsigned chunk = 3; chunk < 40; chunk += 2)
		whole_fill("s_1", chunk, 0x77);
	ck_assert_int_gt(blocks_of(file), 19 * 100);
	whole_content("a", then);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_wait_state(g, CIM_COPY_SYNCHRONIZED);
	/* Written again at once, while the rest goes. */
	whole_fill("s_1", 5, 0x66);
	memset(then + 5 * WHOLE_CHUNK, 0x66, WHOLE_CHUNK);
	whole_until(blocks_of(file) <= 128 + 16);
	whole_is("s_1", then);
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_snapshot_is_there_at_once,
		lists_name_the_relationship_from_both_sides,
		a_written_snapshot_is_skewed_at_once,
		a_group_of_which_one_image_is_written_is_mixed,
		a_clone_written_while_it_is_copied_is_synchronized_then_skewed,
		a_clone_written_before_a_restart_is_skewed_in_the_end,
		a_handle_that_was_open_at_the_end_of_the_copy_makes_it_skewed,
		an_open_image_is_written_after_its_relationship_ended,
		snapshots_are_deleted_in_any_order,
		snapshots_are_the_same_after_a_restart,
		a_lost_point_breaks_the_older_ones_too,
		a_resync_gives_back_what_was_written_to_the_image,
	};

	return unit_main("snapshot", tests, ROWS(tests));
}
