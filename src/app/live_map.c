#include "app/live_map.h"

#include "app/web_files.h"
#include "base/alloc.h"
#include "proto/json.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINES_MAX (8u << 20) /* more would be tedious to draw */
#define DEPTH_MAX 3          /* MultiLineString: lines of points of numbers */

/* --- lines --- */

static int read_all(FILE *file, struct tl_buf *ret_file)
{
    for (;;) {
        if (tl_buf_reserve(ret_file, 65536) < 0)
            return -ENOMEM;
        errno = 0;
        size_t n = fread(ret_file->p + ret_file->n, 1, 65536, file);
        ret_file->n += n;
        if (n == 0)
            return ferror(file) ? -(errno ? errno : EIO) : 0;
        if (ret_file->n > LINES_MAX)
            return -EFBIG;
    }
}

/* 0, or what stands in the way: -errno, or -ENOTSUP for anything but a regular file. */
static int read_file(const char *path, struct tl_buf *ret_file)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would wait for its writer */
    if (fd < 0)
        return -errno;
    int r = fstat(fd, &status) < 0 ? -errno : S_ISREG(status.st_mode) ? 0 : -ENOTSUP;
    FILE *file = r == 0 ? fdopen(fd, "r") : NULL;
    if (!file) {
        r = r == 0 ? -errno : r;
        close(fd);
        return r;
    }
    r = read_all(file, ret_file);
    fclose(file);
    return r;
}

static const char *why(int error)
{
    return error == -ENOTSUP ? "it is not a regular file"
           : error == -EFBIG ? "it has more than 8 MiB"
                             : strerror(-error);
}

static bool is_point(const json_t *point)
{
    const json_t *lon = json_array_get(point, 0), *lat = json_array_get(point, 1);
    return json_is_number(lon) && json_is_number(lat) && json_number_value(lon) >= -180 &&
           json_number_value(lon) <= 180 && json_number_value(lat) >= -90 &&
           json_number_value(lat) <= 90;
}

static bool are_points(const json_t *points)
{
    size_t n = json_array_size(points);
    for (size_t i = 0; i < n; i++)
        if (!is_point(json_array_get(points, i)))
            return false;
    return n >= 2;
}

/* RFC 7946 3.1.4 and 3.1.5. */
static bool is_line(const json_t *geometry)
{
    const char *type = json_string_value(json_object_get(geometry, "type"));
    const json_t *coordinates = json_object_get(geometry, "coordinates");
    if (!type || (strcmp(type, "LineString") != 0 && strcmp(type, "MultiLineString") != 0))
        return false;
    if (strcmp(type, "LineString") == 0)
        return are_points(coordinates);
    size_t n = json_array_size(coordinates);
    for (size_t i = 0; i < n; i++)
        if (!are_points(json_array_get(coordinates, i)))
            return false;
    return n > 0;
}

/* NULL, or what is wrong with it. */
static const char *check_lines(const json_t *root)
{
    const char *type = json_string_value(json_object_get(root, "type"));
    const json_t *features = json_object_get(root, "features");
    if (!type || strcmp(type, "FeatureCollection") != 0 || !json_is_array(features))
        return "not a GeoJSON FeatureCollection";
    for (size_t i = 0; i < json_array_size(features); i++)
        if (is_line(json_object_get(json_array_get(features, i), "geometry")))
            return NULL;
    return "no LineString or MultiLineString in it";
}

int tl_live_map_read_lines(struct tl_live_map *map, const char *path, char *error, size_t error_n)
{
    int r = read_file(path, &map->lines);
    if (r < 0) {
        snprintf(error, error_n, "--lines: cannot read '%.80s': %s", path, why(r));
        return r == -ENOMEM ? r : -EINVAL;
    }
    json_error_t where;
    json_t *root = json_loadb((const char *)map->lines.p, map->lines.n, 0, &where);
    const char *wrong = root ? check_lines(root) : "not JSON";
    if (wrong)
        snprintf(error, error_n, "--lines: '%.80s': %s%s%.80s", path, wrong, root ? "" : ": ",
                 root ? "" : where.text);
    json_decref(root);
    return wrong ? -EINVAL : 0;
}

/* --- documents --- */

static struct tl_document *add(struct tl_live_map *map, const char *path, const char *type,
                               struct tl_bytes body)
{
    struct tl_document *document = &map->documents[map->documents_n];
    char *copy = (char *)tl_alloc_copy(tl_bytes_str(path));
    if (!copy)
        return NULL;
    map->documents_n++;
    *document = (struct tl_document){tl_bytes_str(copy), type, body};
    return document;
}

static bool add_web_file(struct tl_live_map *map, const struct tl_web_file *file)
{
    char path[64];
    bool is_index = strcmp(file->name, "index.html") == 0;
    snprintf(path, sizeof path, "%s%s", is_index ? "/" : "/web/", is_index ? "" : file->name);
    return add(map, path, file->content_type, tl_bytes(file->bytes, file->n));
}

static void write_about(struct tl_live_map *map, bool demo, const char *attribution,
                        struct tl_bytes fleet)
{
    tl_buf_printf(&map->about, "{\"version\":\"" TL_VERSION "\",\"demo\":%s,\"fleet\":",
                  demo ? "true" : "false");
    tl_json_string(&map->about, fleet);
    tl_buf_str(&map->about, ",\"attribution\":");
    tl_json_string(&map->about, tl_bytes_str(attribution));
    tl_buf_str(&map->about, "}\n");
}

int tl_live_map_init(struct tl_live_map *map, bool demo, const char *attribution,
                     struct tl_bytes fleet)
{
    map->documents = tl_zalloc((tl_web_files_n + 2) * sizeof *map->documents);
    if (!map->documents)
        return -ENOMEM;
    write_about(map, demo, attribution, fleet);
    bool ok = !map->about.failed && !map->lines.failed;
    for (size_t i = 0; i < tl_web_files_n && ok; i++)
        ok = add_web_file(map, &tl_web_files[i]);
    ok = ok && add(map, "/web/about", "application/json", tl_buf_bytes(&map->about));
    if (ok && map->lines.n > 0)
        ok = add(map, "/web/lines", "application/geo+json", tl_buf_bytes(&map->lines));
    return ok ? 0 : -ENOMEM;
}

void tl_live_map_deinit(struct tl_live_map *map)
{
    for (size_t i = 0; i < map->documents_n; i++)
        tl_free((void *)(uintptr_t)map->documents[i].path.p);
    tl_free(map->documents);
    tl_buf_deinit(&map->lines);
    tl_buf_deinit(&map->about);
    *map = (struct tl_live_map){0};
}
