/* md5.h - the digest by which llm knows content that it has embedded. Not for security. */
#ifndef ANNEX_CLI_MD5_H
#define ANNEX_CLI_MD5_H

#include <stddef.h>

#define MD5_BYTES 16

void md5_digest(const void *data, size_t bytes, unsigned char digest[MD5_BYTES]);

#endif
