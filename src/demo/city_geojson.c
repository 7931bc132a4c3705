#include "demo/city.h"
#include "proto/json.h"

static void put_place(struct tl_buf *out, struct tl_city_place place)
{
    struct tl_city_degrees at = tl_city_to_degrees(place);
    tl_buf_printf(out, "[%d.%06d,%d.%06d]", at.lon / 1000000, at.lon % 1000000, at.lat / 1000000,
                  at.lat % 1000000);
}

static void put_field(struct tl_buf *out, const char *name, const char *value)
{
    tl_buf_printf(out, "\"%s\":", name);
    tl_json_string(out, tl_bytes_str(value));
}

/* Everything up to the coordinates of a feature; the rest is put_end(). */
static void put_geometry(struct tl_buf *out, const char *type)
{
    tl_buf_printf(out, "},\"geometry\":{\"type\":\"%s\",\"coordinates\":", type);
}

static void put_start(struct tl_buf *out)
{
    tl_buf_str(out, "{\"type\":\"Feature\",\"properties\":{");
}

static void put_end(struct tl_buf *out)
{
    tl_buf_str(out, "}},\n");
}

static void put_land(struct tl_buf *out, const struct tl_city_land *land)
{
    put_start(out);
    put_field(out, "land", land->kind);
    tl_buf_byte(out, ',');
    put_field(out, "name", land->name);
    put_geometry(out, "Polygon");
    for (size_t i = 0; i < land->border_n; i++) {
        tl_buf_str(out, i == 0 ? "[[" : ",");
        put_place(out, land->border[i]);
    }
    tl_buf_str(out, "]]");
    put_end(out);
}

static const char *terminus(const struct tl_city *city, const struct tl_city_line *line, size_t i)
{
    return city->stops[line->calls[i].stop].name;
}

static void put_line(struct tl_buf *out, const struct tl_city *city,
                     const struct tl_city_line *line)
{
    put_start(out);
    put_field(out, "line", line->name);
    tl_buf_str(out, ",\"mode\":\"tram\",");
    put_field(out, "color", line->color);
    tl_buf_byte(out, ',');
    put_field(out, "from", terminus(city, line, 0));
    tl_buf_byte(out, ',');
    put_field(out, "to", terminus(city, line, line->calls_n - 1));
    put_geometry(out, "LineString");
    for (size_t i = 0; i < line->points_n; i++) {
        tl_buf_byte(out, i == 0 ? '[' : ',');
        put_place(out, line->points[i].place);
    }
    tl_buf_byte(out, ']');
    put_end(out);
}

static bool calls_at(const struct tl_city_line *line, size_t stop)
{
    for (size_t i = 0; i < line->calls_n; i++)
        if (line->calls[i].stop == stop)
            return true;
    return false;
}

static void put_stop(struct tl_buf *out, const struct tl_city *city, size_t stop)
{
    put_start(out);
    put_field(out, "stop", city->stops[stop].name);
    tl_buf_str(out, ",\"lines\":");
    char before = '[';
    for (size_t i = 0; i < city->lines_n; i++) {
        if (!calls_at(&city->lines[i], stop))
            continue;
        tl_buf_byte(out, (uint8_t)before);
        tl_json_string(out, tl_bytes_str(city->lines[i].name));
        before = ',';
    }
    tl_buf_byte(out, ']');
    put_geometry(out, "Point");
    put_place(out, city->stops[stop].place);
    put_end(out);
}

void tl_city_geojson(const struct tl_city *city, struct tl_buf *out)
{
    tl_buf_str(out, "{\"type\":\"FeatureCollection\",");
    put_field(out, "name", city->name);
    tl_buf_str(out, ",\"features\":[\n");
    for (size_t i = 0; i < city->lands_n; i++)
        put_land(out, &city->lands[i]);
    for (size_t i = 0; i < city->lines_n; i++)
        put_line(out, city, &city->lines[i]);
    for (size_t i = 0; i < city->stops_n; i++)
        put_stop(out, city, i);
    if (!out->failed)
        out->n -= strlen(",\n"); /* of the last feature */
    tl_buf_str(out, "\n]}\n");
}
