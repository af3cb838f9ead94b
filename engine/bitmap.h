/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_BITMAP_H
#define LUNFS_BITMAP_H

/* Bitmaps in words of 64 bits, bit i being bit i % 64 of word i / 64. */

#include <stdbool.h>
#include <stdint.h>

static inline bool bitmap_get(const uint64_t *words, uint64_t i)
{
	return words[i / 64] >> (i % 64) & 1;
}

static inline void bitmap_set(uint64_t *words, uint64_t i)
{
	words[i / 64] |= UINT64_C(1) << (i % 64);
}

static inline void bitmap_clear(uint64_t *words, uint64_t i)
{
	words[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

/* Sets n bits from i on; the number that were clear. */
static inline unsigned bitmap_set_run(uint64_t *words, unsigned i, unsigned n)
{
	unsigned added = 0;

	while (n > 0) {
		unsigned shift = i % 64;
		unsigned here = n < 64 - shift ? n : 64 - shift;
		uint64_t mask = (here == 64 ? ~UINT64_C(0) : (UINT64_C(1) << here) - 1)
				<< shift;

		added += __builtin_popcountll(mask & ~words[i / 64]);
		words[i / 64] |= mask;
		i += here;
		n -= here;
	}
	return added;
}

static inline unsigned bitmap_count(const uint64_t *words, unsigned n_words)
{
	unsigned i, n = 0;

	for (i = 0; i < n_words; i++)
		n += __builtin_popcountll(words[i]);
	return n;
}

/* How many bits from i on equal bit i, looking at no bit from end on. */
static inline unsigned bitmap_run(const uint64_t *words, unsigned i, unsigned end)
{
	uint64_t flip = bitmap_get(words, i) ? ~UINT64_C(0) : 0;
	unsigned at = i;

	while (at < end) {
		uint64_t differs = (words[at / 64] ^ flip) >> (at % 64);

		if (differs) {
			at += __builtin_ctzll(differs);
			break;
		}
		at += 64 - at % 64;
	}
	return (at < end ? at : end) - i;
}

/* The lowest bit that is set from i on, or n. */
static inline uint64_t bitmap_next(const uint64_t *words, uint64_t i, uint64_t n)
{
	while (i < n) {
		uint64_t word = words[i / 64] >> (i % 64);

		if (word) {
			i += __builtin_ctzll(word);
			return i < n ? i : n;
		}
		i += 64 - i % 64;
	}
	return n;
}

#endif
