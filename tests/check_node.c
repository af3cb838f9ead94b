/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/node.h"

#include <errno.h>

#include "conf/cim.h"
#include "tests/unit.h"

static int is_same(const struct node *a, const struct node *b)
{
	return a->class == b->class && a->id == b->id && a->file == b->file;
}

static void check_round_trip(struct node node)
{
	struct node back;
	uint64_t ino = node_ino(&node);

	ck_assert_int_eq(node_from_ino(ino, &back), 0);
	ck_assert(is_same(&node, &back));
	ck_assert_uint_eq(node_ino(&back), ino);
}

START_TEST(root_is_inode_1)
{
	struct node root = node_top(TOP_ROOT);

	ck_assert_uint_eq(node_ino(&root), 1);
	ck_assert_int_eq(node_type(&root), NODE_TYPE_DIR);
}
END_TEST

START_TEST(every_node_has_an_inode_of_its_own)
{
	static const uint64_t ids[] = { 1, 2, 77, (UINT64_C(1) << 44) - 1 };

	for (unsigned class = ENGINE_ELEMENT; class <= ENGINE_POOL; class ++)
		for (size_t i = 0; i < ROWS(ids); i++) {
			unsigned n;

			node_files(class, &n);
			ck_assert_uint_gt(n, 0);
			for (int file = NODE_SELF; file < (int)n; file++)
				check_round_trip(node_make(class, ids[i], file));
		}
	for (int file = 0; file < TOP_N_FILES; file++)
		check_round_trip(node_top((enum top_file)file));
	for (size_t i = 0; i < cim_copy_state.n_values; i++)
		check_round_trip(node_make(NODE_CLASS_WAIT, 9,
					   (int)cim_copy_state.values[i].number));
	check_round_trip(node_make(NODE_CLASS_IMAGE_LINK, 9, NODE_SELF));
	for (int file = 0; file < CAPABILITY_N_FILES; file++)
		check_round_trip(node_make(NODE_CLASS_CAPABILITY, 1, file));
}
END_TEST

START_TEST(numbers_of_no_node_are_stale)
{
	static const uint64_t inos[] = {
		0,
		TOP_N_FILES + 1,   /* no such file at the root */
		UINT64_C(1) << 11, /* the root has no ids */
		(1 << 11) | (ENGINE_POOL << 8) | (POOL_N_FILES + 1),
		(1 << 11) | (NODE_CLASS_WAIT << 8) | 200, /* no such CopyState */
		(ENGINE_GROUP << 8) | 1,		  /* id 0 */
		UINT64_C(1) << 60,			  /* an id that is too large */
		UINT64_C(1) << 55 | 2 << 11 | 1,	  /* no such capabilities */
		UINT64_C(1) << 55 | 1 << 11 | (CAPABILITY_N_FILES + 1),
		UINT64_C(1) << 55 | 1 << 11, /* they are a directory of the root */
		UINT64_C(1) << 55 | 1 << 11 | 1 << 8 | 1, /* no such class */
		~UINT64_C(0),
	};
	struct node node;

	for (size_t i = 0; i < ROWS(inos); i++)
		ck_assert_msg(node_from_ino(inos[i], &node) == -ESTALE, "row %zu", i);
}
END_TEST

START_TEST(names_are_found_in_their_own_class)
{
	ck_assert_int_eq(node_find_file(ENGINE_GROUP, "CopyState"), GROUP_COPY_STATE);
	ck_assert_int_eq(node_find_file(ENGINE_PAIR, "CopyState"), PAIR_COPY_STATE);
	ck_assert_int_eq(node_find_file(ENGINE_JOB, "CopyState"), -ENOENT);
	ck_assert_int_eq(node_find_file(NODE_CLASS_TOP, "status.json"), TOP_STATUS_JSON);
	ck_assert_int_eq(node_find_file(NODE_CLASS_TOP, ""), -ENOENT);
	ck_assert_int_eq(node_find_file(NODE_CLASS_WAIT, "Synchronized"), -ENOENT);
}
END_TEST

START_TEST(types_follow_the_tables)
{
	static const struct {
		unsigned class;
		int file;
		enum node_type type;
	} rows[] = {
		{ ENGINE_GROUP, NODE_SELF, NODE_TYPE_DIR },
		{ ENGINE_GROUP, GROUP_SPEC, NODE_TYPE_CTL },
		{ ENGINE_GROUP, GROUP_SOURCE, NODE_TYPE_LINK },
		{ ENGINE_GROUP, GROUP_WAIT, NODE_TYPE_DIR },
		{ ENGINE_ELEMENT, ELEMENT_DATA, NODE_TYPE_DATA },
		{ ENGINE_ELEMENT, ELEMENT_BACKING, NODE_TYPE_LINK },
		{ ENGINE_JOB, JOB_CONTROL, NODE_TYPE_CTL },
		{ NODE_CLASS_WAIT, CIM_COPY_BROKEN, NODE_TYPE_WAIT },
		{ NODE_CLASS_IMAGE_LINK, NODE_SELF, NODE_TYPE_LINK },
		{ NODE_CLASS_TOP, TOP_CAPABILITIES, NODE_TYPE_DIR },
		{ NODE_CLASS_CAPABILITY, CAP_OPERATIONS, NODE_TYPE_CTL },
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct node node = node_make(rows[i].class, 5, rows[i].file);

		ck_assert_msg(node_type(&node) == rows[i].type, "row %zu", i);
	}
}
END_TEST

START_TEST(modes_follow_the_tables)
{
	struct node spec = node_make(ENGINE_GROUP, 1, GROUP_SPEC);
	struct node result = node_make(ENGINE_GROUP, 1, GROUP_RESULT);
	struct node control = node_make(ENGINE_JOB, 1, JOB_CONTROL);

	ck_assert_uint_eq(node_file(&spec)->mode, 0644);
	ck_assert_uint_eq(node_file(&result)->mode, 0444);
	ck_assert_uint_eq(node_file(&control)->mode, 0200);
}
END_TEST

START_TEST(containers_hold_their_class)
{
	for (unsigned class = ENGINE_ELEMENT; class <= ENGINE_POOL; class ++) {
		struct node dir = node_container((enum engine_class) class);

		if (class != ENGINE_PAIR)
			ck_assert_uint_eq(node_container_class(&dir), class);
	}
	struct node root = node_top(TOP_ROOT);
	struct node group = node_make(ENGINE_GROUP, TOP_GROUPS, NODE_SELF);

	ck_assert_uint_eq(node_container_class(&root), ENGINE_NONE);
	ck_assert_uint_eq(node_container_class(&group), ENGINE_NONE);
}
END_TEST

START_TEST(wait_takes_the_exact_name_or_none_of_its_blanks)
{
	ck_assert_int_eq(node_wait_state("Synchronized"), CIM_COPY_SYNCHRONIZED);
	ck_assert_int_eq(node_wait_state("Not Applicable"), CIM_COPY_NOT_APPLICABLE);
	ck_assert_int_eq(node_wait_state("NotApplicable"), CIM_COPY_NOT_APPLICABLE);
	ck_assert_int_eq(node_wait_state("synchronized"), -ENOENT);
	ck_assert_int_eq(node_wait_state("Synchronized "), -ENOENT);
	ck_assert_int_eq(node_wait_state("Synchronize"), -ENOENT);
	ck_assert_int_eq(node_wait_state("Not  Applicable"), -ENOENT);
	ck_assert_int_eq(node_wait_state(""), -ENOENT);
	ck_assert_int_eq(node_wait_state("4"), -ENOENT);
}
END_TEST

START_TEST(masks_have_the_files_of_a_kind)
{
	uint64_t progress = node_files_of_kind(ENGINE_GROUP, NODE_KIND_PROGRESS);

	ck_assert_uint_eq(progress, UINT64_C(1) << GROUP_PERCENT_SYNCED);
	ck_assert(node_files_of_kind(ENGINE_GROUP, NODE_KIND_STATE) &
		  UINT64_C(1) << GROUP_COPY_STATE);
	ck_assert_uint_eq(node_files_of_kind(ENGINE_NONE, NODE_KIND_COUNTER), 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		root_is_inode_1,
		every_node_has_an_inode_of_its_own,
		numbers_of_no_node_are_stale,
		names_are_found_in_their_own_class,
		types_follow_the_tables,
		modes_follow_the_tables,
		containers_hold_their_class,
		wait_takes_the_exact_name_or_none_of_its_blanks,
		masks_have_the_files_of_a_kind,
	};

	return unit_main("node", tests, ROWS(tests));
}
