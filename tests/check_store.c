/* SPDX-License-Identifier: BSD-2-Clause */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/timefmt.h"
#include "engine/store.h"

static char dir[32];
static char path[48]; /* state_dir */
static char error[1024];

static void setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/check_store.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/state", dir);
}

static void teardown(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static struct store *open_store(void)
{
	struct store *s = NULL;
	int r = store_open(path, &s, error, sizeof(error));

	ck_assert_msg(r == 0, "%s", error);
	return s;
}

static struct store *reopen(struct store *s)
{
	store_close(s);
	return open_store();
}

/* Rows in which every field has a value of its own. */

static struct store_element element_of(const char *name)
{
	struct store_element row = {
		.origin = STORE_ORIGIN_REPLICA,
		.url = "iscsi://host:3260/iqn.2026-01.org.example:x/1",
		.access_point = "array1",
		.exclusive = true,
		.pr_key = UINT64_MAX - 5,
		.size = UINT64_C(1) << 46,
		.block_size = 4096,
		.serial = "serial 'quoted' \"twice\"",
		.wwn = "naa.6001405",
		.pool = "tank",
		.generation = 77,
		.complete = true,
		.reserved = true,
		.read_only = true,
		.created = 1700000000123,
		.modified = -1,
	};

	snprintf(row.name, sizeof(row.name), "%s", name);
	return row;
}

static struct store_group group_of(const char *name)
{
	struct store_group row = {
		.persistent = true,
		.delete_on_unassociated = true,
		.created = 1700000000456,
	};

	snprintf(row.name, sizeof(row.name), "%s", name);
	return row;
}

static struct store_job job_of(uint64_t group_id)
{
	return (struct store_job){
		.name = "CreateGroupReplica",
		.group_id = group_id,
		.state = 10,
		.error_code = 4,
		.error_description = "no space",
		.start_time = 1,
		.elapsed_ms = 2,
		.last_state_change = 3,
		.delete_on_completion = true,
		.time_before_removal_ms = -1,
		.bytes_total = UINT64_C(1) << 63,
		.bytes_copied = 5,
		.bytes_skipped = 6,
	};
}

static struct store_relationship relationship_of(const char *name, uint64_t group_id)
{
	struct store_relationship row = {
		.group_id = group_id,
		.sync_type = 8,
		.mode = 3,
		.consistency = 2,
		.consistency_state = 4,
		.copy_priority = 5,
		.setting = "CopyPriority=High\nReadOnly=SyncedElement\n",
		.max_bytes_per_second = UINT64_C(1) << 40,
		.digest = true,
		.spec = "SourceGroup=prod\nSyncType=Clone\n[Run]\n",
		.pool = "tank",
		.detaching = true,
		.when_established = 11,
		.when_synced = 12,
		.when_synchronized = 13,
		.when_activated = 14,
		.when_deactivated = 15,
		.when_suspended = 16,
		.shared_method = 1,
		.quiesce_command = "quiesce 'it'",
		.thaw_command = "thaw it",
		.when_held = 17,
		.when_thawed = 18,
		.thaw_error = "exit code 1",
	};

	snprintf(row.name, sizeof(row.name), "%s", name);
	return row;
}

static struct store_pair pair_of(uint64_t relationship_id, unsigned n, uint64_t source_id,
				 uint64_t target_id)
{
	return (struct store_pair){
		.relationship_id = relationship_id,
		.n = n,
		.source_id = source_id,
		.target_id = target_id,
		.copy_state = 4,
		.progress_status = 2,
		.when_synced = 99,
		.bytes_copied = 1000,
		.bytes_skipped = 2000,
		.error = "medium error",
	};
}

static int64_t add_element(struct store *s, const char *name)
{
	struct store_element row = element_of(name);
	int64_t id = store_element_insert(s, &row);

	ck_assert_int_gt(id, 0);
	return id;
}

static int64_t add_group(struct store *s, const char *name)
{
	struct store_group row = group_of(name);
	int64_t id = store_group_insert(s, &row);

	ck_assert_int_gt(id, 0);
	return id;
}

/* What the store has, compared with the rows in `seen_*`. */

static struct store_pair seen_pair;
static struct store_job seen_job;
static unsigned n_seen;

#define EQ(field) ck_assert_int_eq(row->field, want->field)
#define EQ_TEXT(field) ck_assert_str_eq(row->field, want->field)

static int see_element(void *opaque, const struct store_element *row)
{
	const struct store_element *want = opaque;

	n_seen++;
	if (!want)
		return 0;
	EQ(id);
	EQ_TEXT(name);
	EQ(origin);
	EQ_TEXT(url);
	EQ_TEXT(access_point);
	EQ(exclusive);
	EQ(pr_key);
	EQ(size);
	EQ(block_size);
	EQ_TEXT(serial);
	EQ_TEXT(wwn);
	EQ_TEXT(pool);
	EQ(generation);
	EQ(complete);
	EQ(reserved);
	EQ(read_only);
	EQ(created);
	EQ(modified);
	return 0;
}

static int see_group(void *opaque, const struct store_group *row)
{
	const struct store_group *want = opaque;

	n_seen++;
	if (!want)
		return 0;
	EQ(id);
	EQ_TEXT(name);
	EQ(persistent);
	EQ(delete_on_empty_element);
	EQ(delete_on_unassociated);
	EQ(created);
	return 0;
}

static int see_relationship(void *opaque, const struct store_relationship *row)
{
	const struct store_relationship *want = opaque;

	n_seen++;
	if (!want)
		return 0;
	EQ(id);
	EQ(group_id);
	EQ_TEXT(name);
	EQ(sync_type);
	EQ(mode);
	EQ(source_group_id);
	EQ(source_element_id);
	EQ(consistency);
	EQ(consistency_state);
	EQ(copy_priority);
	EQ_TEXT(setting);
	EQ(max_bytes_per_second);
	EQ(digest);
	EQ_TEXT(spec);
	EQ_TEXT(pool);
	EQ(job_id);
	EQ(detaching);
	EQ(when_established);
	EQ(when_synced);
	EQ(when_synchronized);
	EQ(when_activated);
	EQ(when_deactivated);
	EQ(when_suspended);
	EQ(shared_method);
	EQ_TEXT(quiesce_command);
	EQ_TEXT(thaw_command);
	EQ(when_held);
	EQ(when_thawed);
	EQ_TEXT(thaw_error);
	return 0;
}

static int see_hold(void *opaque, const struct store_hold *row)
{
	const struct store_hold *want = opaque;

	n_seen++;
	EQ(id);
	EQ(relationship_id);
	EQ(method);
	EQ_TEXT(source_group);
	EQ_TEXT(members);
	EQ_TEXT(elements);
	EQ_TEXT(thaw_command);
	EQ(began);
	return 0;
}

static int see_pair(void *opaque, const struct store_pair *row)
{
	const struct store_pair *want = opaque;

	n_seen++;
	seen_pair = *row;
	if (!want)
		return 0;
	EQ(id);
	EQ(relationship_id);
	EQ(n);
	EQ(source_id);
	EQ(target_id);
	EQ(copy_state);
	EQ(progress_status);
	EQ(when_synced);
	EQ(bytes_copied);
	EQ(bytes_skipped);
	EQ_TEXT(error);
	return 0;
}

static int see_job(void *opaque, const struct store_job *row)
{
	const struct store_job *want = opaque;

	n_seen++;
	seen_job = *row;
	if (!want)
		return 0;
	EQ(id);
	EQ_TEXT(name);
	EQ(group_id);
	EQ(state);
	EQ(error_code);
	EQ_TEXT(error_description);
	EQ(start_time);
	EQ(elapsed_ms);
	EQ(last_state_change);
	EQ(delete_on_completion);
	EQ(time_before_removal_ms);
	EQ(bytes_total);
	EQ(bytes_copied);
	EQ(bytes_skipped);
	return 0;
}

static unsigned n_elements(struct store *s)
{
	n_seen = 0;
	ck_assert_int_eq(store_each_element(s, see_element, NULL), 0);
	return n_seen;
}

static unsigned n_groups(struct store *s)
{
	n_seen = 0;
	ck_assert_int_eq(store_each_group(s, see_group, NULL), 0);
	return n_seen;
}

static char member_text[256];

static int see_member(void *opaque, uint64_t group_id, uint64_t element_id)
{
	size_t len = strlen(member_text);

	snprintf(member_text + len, sizeof(member_text) - len, "%d:%d ", (int)group_id,
		 (int)element_id);
	return 0;
}

static const char *members(struct store *s)
{
	member_text[0] = '\0';
	ck_assert_int_eq(store_each_member(s, see_member, NULL), 0);
	return member_text;
}

START_TEST(an_element_comes_back_as_it_was)
{
	struct store_element row = element_of("db0");
	struct store *s = open_store();

	store_begin(s);
	row.id = store_element_insert(s, &row);
	ck_assert_int_eq(store_commit(s), 0);
	s = reopen(s);
	n_seen = 0;
	ck_assert_int_eq(store_each_element(s, see_element, &row), 0);
	ck_assert_uint_eq(n_seen, 1);

	snprintf(row.name, sizeof(row.name), "%s",
		 "0123456789012345678901234567890123456789");
	row.origin = STORE_ORIGIN_USER;
	row.url = row.access_point = row.serial = row.wwn = row.pool = "";
	row.exclusive = row.complete = false;
	row.pr_key = row.size = row.generation = 0;
	row.block_size = UINT32_MAX;
	row.created = row.modified = INT64_MIN;
	store_begin(s);
	ck_assert_int_eq(store_element_update(s, &row), 0);
	ck_assert_int_eq(store_commit(s), 0);
	s = reopen(s);
	ck_assert_int_eq(store_each_element(s, see_element, &row), 0);
	ck_assert_uint_eq(n_seen, 2);
	store_close(s);
}
END_TEST

START_TEST(a_null_text_is_an_empty_one)
{
	struct store_element row = { .name = "x", .origin = STORE_ORIGIN_USER };
	struct store *s = open_store();

	store_begin(s);
	row.id = store_element_insert(s, &row);
	ck_assert_int_eq(store_commit(s), 0);
	row.url = row.access_point = row.serial = row.wwn = row.pool = "";
	ck_assert_int_eq(store_each_element(s, see_element, &row), 0);
	store_close(s);
}
END_TEST

START_TEST(a_group_comes_back_as_it_was)
{
	struct store_group row = group_of("prod");
	struct store *s = open_store();

	store_begin(s);
	row.id = store_group_insert(s, &row);
	ck_assert_int_eq(store_commit(s), 0);
	s = reopen(s);
	n_seen = 0;
	ck_assert_int_eq(store_each_group(s, see_group, &row), 0);
	ck_assert_uint_eq(n_seen, 1);
	row.persistent = row.delete_on_unassociated = false;
	row.delete_on_empty_element = true;
	store_begin(s);
	store_group_update(s, &row);
	ck_assert_int_eq(store_commit(s), 0);
	ck_assert_int_eq(store_each_group(s, see_group, &row), 0);
	store_close(s);
}
END_TEST

/* A relationship with everything it refers to. */
struct family {
	int64_t source_group, group, source, target, job, relationship, pair;
};

static struct family add_family(struct store *s, const char *name)
{
	struct family f;
	struct store_job job;
	struct store_relationship rel;
	struct store_pair pair;
	char text[40];

	snprintf(text, sizeof(text), "%s_src", name);
	f.source_group = add_group(s, text);
	f.source = add_element(s, text);
	f.group = add_group(s, name);
	f.target = add_element(s, name);
	job = job_of(f.group);
	f.job = store_job_insert(s, &job);
	rel = relationship_of(name, f.group);
	rel.source_group_id = f.source_group;
	rel.job_id = f.job;
	f.relationship = store_relationship_insert(s, &rel);
	pair = pair_of(f.relationship, 1, f.source, f.target);
	f.pair = store_pair_insert(s, &pair);
	return f;
}

START_TEST(a_relationship_its_pair_and_its_job_come_back_as_they_were)
{
	struct store *s = open_store();
	struct store_relationship rel;
	struct store_pair pair;
	struct store_job job;
	struct family f;

	store_begin(s);
	f = add_family(s, "nightly");
	ck_assert_int_eq(store_commit(s), 0);
	s = reopen(s);

	rel = relationship_of("nightly", f.group);
	rel.id = f.relationship;
	rel.source_group_id = f.source_group;
	rel.job_id = f.job;
	pair = pair_of(f.relationship, 1, f.source, f.target);
	pair.id = f.pair;
	job = job_of(f.group);
	job.id = f.job;
	n_seen = 0;
	ck_assert_int_eq(store_each_relationship(s, see_relationship, &rel), 0);
	ck_assert_int_eq(store_each_pair(s, see_pair, &pair), 0);
	ck_assert_int_eq(store_each_job(s, see_job, &job), 0);
	ck_assert_uint_eq(n_seen, 3);

	rel.source_group_id = rel.job_id = 0;
	rel.source_element_id = f.source;
	rel.sync_type = rel.mode = rel.consistency = rel.consistency_state =
		rel.copy_priority = 17;
	rel.spec = rel.pool = "";
	rel.detaching = false;
	rel.when_established = rel.when_synced = rel.when_synchronized = 0;
	pair.n = 9;
	pair.copy_state = pair.progress_status = 18;
	pair.bytes_copied = UINT64_MAX;
	pair.error = "";
	job.group_id = 0;
	job.state = job.error_code = 7;
	job.delete_on_completion = false;
	job.time_before_removal_ms = 60000;
	job.name = job.error_description = "";
	store_begin(s);
	store_relationship_update(s, &rel);
	store_pair_update(s, &pair);
	store_job_update(s, &job);
	ck_assert_int_eq(store_commit(s), 0);
	s = reopen(s);
	ck_assert_int_eq(store_each_relationship(s, see_relationship, &rel), 0);
	ck_assert_int_eq(store_each_pair(s, see_pair, &pair), 0);
	ck_assert_int_eq(store_each_job(s, see_job, &job), 0);
	ck_assert_uint_eq(n_seen, 6);
	store_close(s);
}
END_TEST

START_TEST(what_is_owed_outlives_its_relationship)
{
	struct store *s = open_store();
	struct family f;
	struct store_hold hold = {
		.method = 2,
		.source_group = "prod",
		.members = "db0 log0",
		.elements = "3 4",
		.thaw_command = "thaw it",
		.began = 9,
	};

	n_seen = 0;
	store_begin(s);
	f = add_family(s, "nightly");
	hold.relationship_id = (uint64_t)f.relationship;
	hold.id = (uint64_t)store_hold_insert(s, &hold);
	ck_assert_int_eq(store_commit(s), 0);
	s = reopen(s);
	ck_assert_int_eq(store_each_hold(s, see_hold, &hold), 0);
	hold.relationship_id = 0;
	hold.members = "";
	store_begin(s);
	store_relationship_delete(s, (uint64_t)f.relationship);
	ck_assert_int_eq(store_commit(s), 0);
	store_begin(s);
	store_hold_update(s, &hold);
	ck_assert_int_eq(store_commit(s), 0);
	ck_assert_int_eq(store_each_hold(s, see_hold, &hold), 0);
	ck_assert_uint_eq(n_seen, 2);
	store_begin(s);
	store_hold_delete(s, hold.id);
	ck_assert_int_eq(store_commit(s), 0);
	ck_assert_int_eq(store_each_hold(s, see_hold, &hold), 0);
	ck_assert_uint_eq(n_seen, 2);
	store_close(s);
}
END_TEST

START_TEST(members_keep_their_order_and_are_replaced)
{
	struct store *s = open_store();
	uint64_t ids[3], group, other;
	char want[64];

	store_begin(s);
	group = add_group(s, "a");
	other = add_group(s, "b");
	ids[2] = add_element(s, "x");
	ids[0] = add_element(s, "y");
	ids[1] = add_element(s, "z");
	store_members_set(s, group, ids, 3);
	store_members_set(s, other, ids + 1, 1);
	ck_assert_int_eq(store_commit(s), 0);
	s = reopen(s);
	ck_assert_str_eq(members(s), "1:2 1:3 1:1 2:3 ");
	/* Turned round, in one transaction. */
	store_begin(s);
	store_members_set(s, group, ids + 1, 2);
	ck_assert_int_eq(store_commit(s), 0);
	ck_assert_str_eq(members(s), "1:3 1:1 2:3 ");
	store_begin(s);
	store_group_delete(s, group);
	ck_assert_int_eq(store_commit(s), 0);
	snprintf(want, sizeof(want), "%d:%d ", (int)other, (int)ids[1]);
	ck_assert_str_eq(members(s), want);
	/* Twice the same. */
	ids[0] = ids[1];
	store_begin(s);
	ck_assert_int_eq(store_members_set(s, other, ids, 2), -EEXIST);
	ck_assert_int_eq(store_commit(s), -EEXIST);
	ck_assert_str_eq(members(s), want);
	store_close(s);
}
END_TEST

START_TEST(pairs_come_in_order_of_relationship_and_number)
{
	struct store *s = open_store();
	struct store_pair pair;
	struct family f;

	store_begin(s);
	f = add_family(s, "a");
	pair = pair_of(f.relationship, 0, f.source, f.target);
	store_pair_insert(s, &pair);
	ck_assert_int_eq(store_commit(s), 0);
	ck_assert_int_eq(store_each_pair(s, see_pair, NULL), 0);
	ck_assert_uint_eq(seen_pair.n, 1);
	store_begin(s);
	ck_assert_int_eq(store_pair_insert(s, &pair), -EEXIST);
	store_rollback(s);
	store_close(s);
}
END_TEST

START_TEST(a_rollback_leaves_nothing)
{
	struct store *s = open_store();

	store_begin(s);
	add_element(s, "x");
	store_rollback(s);
	ck_assert_uint_eq(n_elements(s), 0);
	store_begin(s);
	ck_assert_int_eq(store_commit(s), 0);
	store_close(s);
}
END_TEST

START_TEST(names_are_unique_and_the_first_error_sticks)
{
	struct store *s = open_store();
	struct store_element row = element_of("x");
	struct store_group group = group_of("g");
	struct store_relationship rel;
	struct family f;

	store_begin(s);
	add_element(s, "x");
	ck_assert_int_eq(store_commit(s), 0);
	store_begin(s);
	ck_assert_int_gt(store_group_insert(s, &group), 0);
	ck_assert_int_eq(store_element_insert(s, &row), -EEXIST);
	ck_assert_int_eq(store_group_insert(s, &group), -EEXIST);
	ck_assert_int_eq(store_element_update(s, &row), -EEXIST);
	ck_assert_int_eq(store_element_delete(s, 1), -EEXIST);
	ck_assert_int_eq(store_members_set(s, 1, NULL, 0), -EEXIST);
	ck_assert_int_eq(store_commit(s), -EEXIST);
	ck_assert_ptr_nonnull(strstr(store_error(s), "element.name"));
	ck_assert_uint_eq(n_groups(s), 0);
	ck_assert_uint_eq(n_elements(s), 1);
	/* The next one is free of it; names differ by case. */
	store_begin(s);
	add_element(s, "X");
	f = add_family(s, "r");
	ck_assert_int_eq(store_commit(s), 0);
	store_begin(s);
	rel = relationship_of("r", f.group);
	ck_assert_int_eq(store_relationship_insert(s, &rel), -EEXIST);
	store_rollback(s);
	store_close(s);
}
END_TEST

START_TEST(rows_that_are_not_there_are_told)
{
	struct store *s = open_store();
	struct store_element row = element_of("x");
	struct store_pair pair = pair_of(5, 1, 0, 0);

	row.id = 5;
	store_begin(s);
	ck_assert_int_eq(store_element_update(s, &row), -ENOENT);
	ck_assert_int_eq(store_commit(s), -ENOENT);
	store_begin(s);
	ck_assert_int_eq(store_job_delete(s, 5), -ENOENT);
	store_rollback(s);
	/* A reference is looked at in the commit. */
	store_begin(s);
	ck_assert_int_gt(store_pair_insert(s, &pair), 0);
	ck_assert_int_eq(store_commit(s), -ENOENT);
	store_begin(s);
	add_element(s, "x");
	ck_assert_int_eq(store_commit(s), 0);
	store_close(s);
}
END_TEST

START_TEST(what_is_referred_to_cannot_go_but_in_one_transaction)
{
	struct store *s = open_store();
	struct family f;

	store_begin(s);
	f = add_family(s, "r");
	ck_assert_int_eq(store_commit(s), 0);
	store_begin(s);
	store_element_delete(s, f.target);
	ck_assert_int_eq(store_commit(s), -ENOENT);
	ck_assert_uint_eq(n_elements(s), 2);
	/* In any order. */
	store_begin(s);
	store_element_delete(s, f.target);
	store_group_delete(s, f.group);
	store_relationship_delete(s, f.relationship);
	ck_assert_int_eq(store_commit(s), 0);
	n_seen = 0;
	ck_assert_int_eq(store_each_pair(s, see_pair, NULL), 0);
	ck_assert_uint_eq(n_seen, 0);
	/* The job stays, of no group. */
	ck_assert_int_eq(store_each_job(s, see_job, NULL), 0);
	ck_assert_uint_eq(n_seen, 1);
	ck_assert_uint_eq(seen_job.group_id, 0);
	store_close(s);
}
END_TEST

START_TEST(ids_are_never_used_again)
{
	struct store *s = open_store();
	int64_t id, last = 0;
	int i;

	for (i = 0; i < 3; i++) {
		store_begin(s);
		id = add_element(s, "x");
		ck_assert_int_gt(id, last);
		ck_assert_int_eq(store_commit(s), 0);
		last = id;
		store_begin(s);
		store_element_delete(s, id);
		ck_assert_int_eq(store_commit(s), 0);
		s = reopen(s);
	}
	store_close(s);
}
END_TEST

START_TEST(pools_keep_their_ids)
{
	struct store *s = open_store();
	int64_t a = store_pool_id(s, "a"), b;

	ck_assert_int_gt(a, 0);
	store_begin(s);
	b = store_pool_id(s, "b");
	ck_assert_int_eq(store_pool_id(s, "a"), a);
	ck_assert_int_eq(store_commit(s), 0);
	ck_assert_int_ne(a, b);
	s = reopen(s);
	ck_assert_int_eq(store_pool_id(s, "b"), b);
	ck_assert_int_eq(store_pool_id(s, "a"), a);
	store_close(s);
}
END_TEST

START_TEST(the_id_of_the_store_lasts)
{
	struct store *s = open_store();
	char id[STORE_ID_LEN + 1];

	ck_assert_uint_eq(strlen(store_id(s)), STORE_ID_LEN);
	strcpy(id, store_id(s));
	s = reopen(s);
	ck_assert_str_eq(store_id(s), id);
	store_close(s);
	snprintf(path, sizeof(path), "%s/other", dir);
	s = open_store();
	ck_assert_str_ne(store_id(s), id);
	store_close(s);
	store_close(NULL);
}
END_TEST

static int stop_at_second(void *opaque, const struct store_element *row)
{
	return ++*(unsigned *)opaque == 2 ? 42 : 0;
}

START_TEST(a_callback_can_end_the_reading)
{
	struct store *s = open_store();
	unsigned n = 0;

	store_begin(s);
	add_element(s, "a");
	add_element(s, "b");
	add_element(s, "c");
	ck_assert_int_eq(store_commit(s), 0);
	ck_assert_int_eq(store_each_element(s, stop_at_second, &n), 42);
	ck_assert_uint_eq(n, 2);
	store_begin(s);
	ck_assert_int_eq(store_commit(s), 0);
	store_close(s);
}
END_TEST

START_TEST(what_was_committed_survives_a_kill)
{
	struct store *s;
	int status, ready[2];
	char byte;
	pid_t pid;

	ck_assert_int_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		s = open_store();
		store_begin(s);
		add_element(s, "committed");
		if (store_commit(s) < 0)
			_exit(1);
		store_begin(s);
		add_element(s, "not committed");
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	close(ready[0]);
	close(ready[1]);
	s = open_store();
	ck_assert_uint_eq(n_elements(s), 1);
	store_close(s);
}
END_TEST

/* Is kept off, with the reason?  The exit code of a process of its own. */
static int try_second(int ready)
{
	struct store *second;
	char want[32], byte;

	snprintf(want, sizeof(want), "(pid %d)", (int)getppid());
	if (read(ready, &byte, 1) != 1)
		return 1;
	if (store_lock_holder(path) != getppid())
		return 2;
	if (store_open(path, &second, error, sizeof(error)) != -EBUSY)
		return 3;
	return strstr(error, path) && strstr(error, want) ? 0 : 4;
}

START_TEST(a_second_process_is_kept_off)
{
	struct store *s;
	int status, ready[2];
	pid_t pid;

	ck_assert_int_eq(pipe(ready), 0);
	/* Before there is a store: a process must not inherit one. */
	pid = fork();
	if (pid == 0)
		_exit(try_second(ready[0]));
	s = open_store();
	ck_assert_int_eq(write(ready[1], "x", 1), 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	close(ready[0]);
	close(ready[1]);
	store_close(s);
	ck_assert_int_eq(store_lock_holder(path), 0);
	ck_assert_int_eq(store_lock_holder("/no/such/directory"), 0);
	store_close(open_store());
}
END_TEST

static int open_fails(void)
{
	struct store *s;
	int r = store_open(path, &s, error, sizeof(error));

	ck_assert_int_lt(r, 0);
	ck_assert_ptr_nonnull(strstr(error, path));
	return r;
}

static void patch_db(off_t offset, const void *data, size_t size)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "%s/lunfs.db", path);
	fd = open(name, O_WRONLY);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, data, size, offset), size);
	close(fd);
}

static int note_element(void *opaque, const struct store_element *row)
{
	*(struct store_element *)opaque = *row;
	return 0;
}

static struct store_element only_element(struct store *s)
{
	struct store_element row = { 0 };

	ck_assert_int_eq(store_each_element(s, note_element, &row), 0);
	return row;
}

START_TEST(after_a_crash_what_could_be_changed_counts_as_modified)
{
	struct store *s = open_store();
	struct store_element row = element_of("x"), back;
	int64_t id;

	row.modified = 1000;
	ck_assert_int_eq(store_begin_run(s, 2000), 0);
	store_begin(s);
	id = store_element_insert(s, &row);
	ck_assert_int_eq(store_commit(s), 0);
	ck_assert_int_gt(id, 0);
	ck_assert_int_eq(store_end_run(s), 0);
	s = reopen(s);
	ck_assert_int_eq(store_begin_run(s, 3000), 0);
	back = only_element(s);
	ck_assert_int_eq(back.modified, 1000);
	/* That run has no end. */
	s = reopen(s);
	ck_assert_int_eq(store_begin_run(s, 4000), 0);
	back = only_element(s);
	ck_assert_int_eq(back.modified, 4000);
	store_close(s);
}
END_TEST

START_TEST(a_newer_schema_is_refused)
{
	store_close(open_store());
	/* user_version: 4 bytes, big endian, in the header of the file. */
	patch_db(60, "\0\0\x03\xe8", 4);
	ck_assert_int_eq(open_fails(), -EPROTONOSUPPORT);
	ck_assert_ptr_nonnull(strstr(error, "newer lunfs (schema 1000;"));
}
END_TEST

START_TEST(a_damaged_database_is_unclean)
{
	store_close(open_store());
	patch_db(0, "not a database", 14);
	ck_assert_int_eq(open_fails(), -EUCLEAN);
}
END_TEST

START_TEST(a_missing_parent_and_a_file_are_refused)
{
	snprintf(path, sizeof(path), "%s/no/state", dir);
	ck_assert_int_eq(open_fails(), -ENOENT);
	snprintf(path, sizeof(path), "%s/file", dir);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	ck_assert_int_eq(open_fails(), -ENOTDIR);
}
END_TEST

START_TEST(files_are_for_the_owner_alone)
{
	struct store *s = open_store();
	static const char *const names[] = { "lunfs.db", "lunfs.db-wal", "lock",
					     "reserve" };
	char name[64];
	struct stat st;
	size_t i;

	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	store_begin(s);
	add_element(s, "x");
	ck_assert_int_eq(store_commit(s), 0);
	for (i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "%s/%s", path, names[i]);
		ck_assert_int_eq(stat(name, &st), 0);
		ck_assert_uint_eq(st.st_mode & 0777, 0600);
	}
	store_close(s);
}
END_TEST

static uint64_t time_of_loading(unsigned n)
{
	uint64_t start = timefmt_monotonic_ns();
	struct store *s = open_store();

	ck_assert_uint_eq(n_groups(s), n);
	ck_assert_uint_eq(n_elements(s), n);
	members(s);
	store_close(s);
	return timefmt_monotonic_ns() - start;
}

START_TEST(ten_thousand_groups_load_in_a_second)
{
	enum { N = 10000, TRIES = 5 };
	struct store *s = open_store();
	uint64_t best = UINT64_MAX, i;
	char name[32];

	store_begin(s);
	for (i = 0; i < N; i++) {
		uint64_t id;

		snprintf(name, sizeof(name), "g%d", (int)i);
		id = add_element(s, name);
		store_members_set(s, add_group(s, name), &id, 1);
	}
	ck_assert_int_eq(store_commit(s), 0);
	store_close(s);
	/* The machine may be busy with something else for a while. */
	for (i = 0; i < TRIES && best >= 1000000000; i++) {
		uint64_t t = time_of_loading(N);

		best = t < best ? t : best;
	}
#ifndef LUNFS_SANITIZERS
	if (!getenv("LUNFS_TEST_SLOW"))
		ck_assert_uint_lt(best, 1000000000);
#endif
}
END_TEST

/* In a file system of 40 MiB: fills it until a commit fails, then uses the
 * reserve.  0, or the number of what went wrong. */
static int fill_and_use_reserve(void)
{
	struct store_element row = element_of("x");
	struct store *s;
	char *big = calloc(1, 1 << 20);
	int i, r = 0;

	if (store_open(path, &s, error, sizeof(error)) < 0)
		return 1;
	memset(big, 'x', (1 << 20) - 1);
	row.serial = big;
	for (i = 0; i < 100 && r == 0; i++) {
		snprintf(row.name, sizeof(row.name), "e%d", i);
		store_begin(s);
		store_element_insert(s, &row);
		r = store_commit(s);
	}
	if (r != -ENOSPC)
		return 2;
	/* 40 MiB, of which the reserve has 16. */
	if (i < 5 || i > 30)
		return 3;
	store_use_reserve(s);
	store_begin(s);
	store_element_insert(s, &row);
	if (store_commit(s) < 0)
		return 4;
	store_close(s);
	free(big);
	return 0;
}

START_TEST(a_full_disk_is_enospc_and_the_reserve_helps)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) < 0 ||
		    mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("none", dir, "tmpfs", 0, "size=40m") < 0)
			_exit(77);
		_exit(fill_and_use_reserve());
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		puts("skipped: no mount namespace can be made here");
	else
		ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("store");
	TCase *tc = tcase_create("store");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, an_element_comes_back_as_it_was);
	tcase_add_test(tc, a_null_text_is_an_empty_one);
	tcase_add_test(tc, a_group_comes_back_as_it_was);
	tcase_add_test(tc, a_relationship_its_pair_and_its_job_come_back_as_they_were);
	tcase_add_test(tc, what_is_owed_outlives_its_relationship);
	tcase_add_test(tc, members_keep_their_order_and_are_replaced);
	tcase_add_test(tc, pairs_come_in_order_of_relationship_and_number);
	tcase_add_test(tc, a_rollback_leaves_nothing);
	tcase_add_test(tc, names_are_unique_and_the_first_error_sticks);
	tcase_add_test(tc, rows_that_are_not_there_are_told);
	tcase_add_test(tc, what_is_referred_to_cannot_go_but_in_one_transaction);
	tcase_add_test(tc, ids_are_never_used_again);
	tcase_add_test(tc, pools_keep_their_ids);
	tcase_add_test(tc, the_id_of_the_store_lasts);
	tcase_add_test(tc, a_callback_can_end_the_reading);
	tcase_add_test(tc, what_was_committed_survives_a_kill);
	tcase_add_test(tc, a_second_process_is_kept_off);
	tcase_add_test(tc, after_a_crash_what_could_be_changed_counts_as_modified);
	tcase_add_test(tc, a_newer_schema_is_refused);
	tcase_add_test(tc, a_damaged_database_is_unclean);
	tcase_add_test(tc, a_missing_parent_and_a_file_are_refused);
	tcase_add_test(tc, files_are_for_the_owner_alone);
	tcase_add_test(tc, ten_thousand_groups_load_in_a_second);
	tcase_add_test(tc, a_full_disk_is_enospc_and_the_reserve_helps);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
