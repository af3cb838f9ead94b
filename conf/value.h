/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_VALUE_H
#define LUNFS_VALUE_H

/* Values as a person writes them in the configuration.  Each returns 0; -EINVAL
 * for a text of another form; -ERANGE for one that does not fit. */

#include <stdbool.h>
#include <stdint.h>

int value_number(const char *text, uint64_t *ret_number); /* decimal */
int value_size(const char *text, uint64_t *ret_bytes);	  /* K M G T: powers of 1024 */

/* `7`, `7s`, `1.5s`, `500ms`, `2m`, `24h`, `1d`; at most three decimals. */
int value_duration(const char *text, uint64_t *ret_ms);

int value_bool(const char *text, bool *ret_bool); /* yes true on 1, no false off 0 */

#endif
