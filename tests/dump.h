/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TESTS_DUMP_H
#define LUNFS_TESTS_DUMP_H

/* All that the engine of whole.h holds, as text: to prove that nothing was changed. */

#include <stdbool.h>

#include "conf/strbuf.h"

/*
 * Appends every row of the state store (with_ids: the last id of each table, too, which a
 * call that fails late has drawn), every object as engine.h shows it (but for
 * `result` and for what counts up while a copy runs), and the names and sizes of the
 * pool's files.
 */
void dump_add(struct strbuf *b, bool with_ids);

/* The first line that differs, for a message; "" = none does.  A static buffer. */
const char *dump_difference(const struct strbuf *before, const struct strbuf *after);

/* Waits until two dumps in a row are the same. */
void dump_settle(void);

#endif
