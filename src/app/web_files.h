/*
 * The files of web/ as they stood when the program was built; tools/embed writes the table.
 */
#ifndef TL_APP_WEB_FILES_H
#define TL_APP_WEB_FILES_H

#include <stddef.h>
#include <stdint.h>

struct tl_web_file {
    const char *name; /* "main.js" */
    const char *content_type;
    const uint8_t *bytes;
    size_t n;
};

extern const struct tl_web_file tl_web_files[];
extern const size_t tl_web_files_n;

#endif
