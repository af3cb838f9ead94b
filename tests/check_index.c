/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/unit.h"

#include <errno.h>

#include "engine/index.h"

struct thing {
	unsigned key;
};

static int compare(const void *a, const void *b)
{
	const struct thing *x = a, *y = b;

	return x->key < y->key ? -1 : x->key > y->key;
}

static void note(void *thing, void *opaque)
{
	unsigned **at = opaque;

	*(*at)++ = ((struct thing *)thing)->key;
}

START_TEST(things_are_found_by_key_and_walked_in_order)
{
	struct thing things[] = { { 5 }, { 1 }, { 9 }, { 3 }, { 7 } };
	struct thing twin = { 9 }, none = { 4 };
	struct index index = INDEX_INIT(compare);
	static const unsigned left[] = { 1, 3, 7, 9 };
	unsigned seen[8], *at = seen;

	for (size_t i = 0; i < 5; i++)
		ck_assert_int_eq(index_add(&index, &things[i]), 0);
	ck_assert_int_eq(index_add(&index, &twin), -EEXIST);
	ck_assert_uint_eq(index.n, 5);
	ck_assert_ptr_eq(index_find(&index, &twin), &things[2]);
	ck_assert_ptr_null(index_find(&index, &none));
	index_remove(&index, &things[0]);
	index_remove(&index, &none);
	ck_assert_uint_eq(index.n, 4);
	index_each(&index, note, &at);
	ck_assert_int_eq(at - seen, 4);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_uint_eq(seen[i], left[i]);
	index_clear(&index, NULL);
	ck_assert_uint_eq(index.n, 0);
	ck_assert_ptr_null(index_find(&index, &things[1]));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { things_are_found_by_key_and_walked_in_order };

	return unit_main("index", tests, ROWS(tests));
}
