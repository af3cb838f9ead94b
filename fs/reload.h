/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_RELOAD_H
#define LUNFS_RELOAD_H

#include "conf/config.h"
#include "conf/strbuf.h"

/*
 * Appends to b the sections in which two configurations differ, as one list:
 * `[element db1] (new), [pool p] (changed), [daemon] (changed)`.  Their number.
 */
unsigned reload_changes(const struct config *before, const struct config *after,
			struct strbuf *b);

#endif
