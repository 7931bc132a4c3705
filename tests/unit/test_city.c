#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "demo/city.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

static struct tl_city *city;

static int make_city(void **state)
{
    (void)state;
    return tl_city_new(&city, 1);
}

static int free_city(void **state)
{
    (void)state;
    tl_city_free(city);
    return 0;
}

static double metres(struct tl_city_place a, struct tl_city_place b)
{
    return hypot((double)(a.x_mm - b.x_mm), (double)(a.y_mm - b.y_mm)) / 1000;
}

static json_t *geojson(const struct tl_city *from)
{
    struct tl_buf text = {0};
    json_error_t error;
    tl_city_geojson(from, &text);
    assert_false(text.failed);
    json_t *parsed = json_loadb((char *)text.p, text.n, JSON_REJECT_DUPLICATES, &error);
    if (!parsed)
        print_error("%s at %d\n", error.text, error.position);
    assert_non_null(parsed);
    tl_buf_deinit(&text);
    return parsed;
}

static void lines_are_unbroken_and_measured(void **state)
{
    (void)state;
    assert_int_equal(city->lines_n, 8);
    for (size_t i = 0; i < city->lines_n; i++) {
        const struct tl_city_line *line = &city->lines[i];
        assert_int_equal(line->points[0].at_mm, 0);
        assert_int_equal(line->points[line->points_n - 1].at_mm, line->length_mm);
        assert_in_range(line->length_mm, 6000000, 14000000);
        for (size_t j = 0; j + 1 < line->points_n; j++) {
            const struct tl_city_point *p = &line->points[j];
            double way = metres(p->place, p[1].place);
            assert_true(way > 0.5 && way < 120);
            assert_true(fabs(way - (double)(p[1].at_mm - p->at_mm) / 1000) < 0.01);
            assert_in_range(p->limit, 5000, 14000);
        }
    }
}

static void headings_are_those_of_a_compass(void **state)
{
    (void)state;
    for (size_t i = 0; i < city->lines_n; i++)
        for (size_t j = 0; j + 1 < city->lines[i].points_n; j++) {
            const struct tl_city_point *p = &city->lines[i].points[j];
            double right = atan2((double)(p[1].place.x_mm - p->place.x_mm),
                                 (double)(p[1].place.y_mm - p->place.y_mm)) *
                           180 / 3.14159265358979;
            double off = fmod(right - p->heading_deg + 720, 360);
            assert_in_range(p->heading_deg, 0, 359);
            assert_true(off < 1 || off > 359);
        }
}

static void lines_bend_smoothly(void **state)
{
    (void)state;
    for (size_t i = 0; i < city->lines_n; i++)
        for (size_t j = 0; j + 2 < city->lines[i].points_n; j++) {
            const struct tl_city_point *p = &city->lines[i].points[j];
            int turn = (p[1].heading_deg - p->heading_deg + 540) % 360 - 180;
            assert_true(abs(turn) < 35);
        }
}

static void stops_are_on_their_lines_and_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < city->lines_n; i++) {
        const struct tl_city_line *line = &city->lines[i];
        assert_in_range(line->calls_n, 12, 25);
        assert_int_equal(line->calls[0].at_mm, 0);
        assert_int_equal(line->calls[line->calls_n - 1].at_mm, line->length_mm);
        for (size_t j = 0; j < line->calls_n; j++) {
            const struct tl_city_call *call = &line->calls[j];
            struct tl_city_place track = tl_city_locate(line, call->at_mm, 0);
            assert_true(metres(track, city->stops[call->stop].place) < 15);
            if (j > 0)
                assert_true(call->at_mm - call[-1].at_mm > 250000);
        }
    }
}

static void names_are_short_and_differ(void **state)
{
    (void)state;
    for (size_t i = 0; i < city->stops_n; i++) {
        assert_in_range(strlen(city->stops[i].name), 3, 18);
        assert_null(strpbrk(city->stops[i].name, "\"\\"));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(city->stops[i].name, city->stops[j].name);
    }
}

/* WCAG 2.2, relative luminance. */
static double luminance(const char *color)
{
    static const double weight[] = {0.2126, 0.7152, 0.0722};
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        char hex[] = {color[1 + 2 * i], color[2 + 2 * i], 0};
        double c = (double)strtol(hex, NULL, 16) / 255;
        sum += weight[i] * (c <= 0.03928 ? c / 12.92 : pow((c + 0.055) / 1.055, 2.4));
    }
    return sum;
}

static void colors_are_legible_on_white_and_on_black(void **state)
{
    (void)state;
    for (size_t i = 0; i < city->lines_n; i++) {
        double l = luminance(city->lines[i].color);
        assert_int_equal(strlen(city->lines[i].color), 7);
        assert_true(1.05 / (l + 0.05) >= 3);
        assert_true((l + 0.05) / (luminance("#14181c") + 0.05) >= 3);
    }
}

static void lines_share_the_streets_of_the_centre(void **state)
{
    (void)state;
    size_t shared = 0;
    const struct tl_city_line *a = &city->lines[0], *b = &city->lines[7];
    for (size_t i = 0; i < a->points_n; i++)
        for (size_t j = 0; j < b->points_n; j++)
            shared += metres(a->points[i].place, b->points[j].place) == 0;
    assert_in_range(shared, 30, a->points_n);
}

static void places_are_found_from_anywhere(void **state)
{
    (void)state;
    const struct tl_city_line *line = &city->lines[3];
    struct tl_city_place before = line->points[0].place;
    for (int64_t at_mm = 0; at_mm <= line->length_mm; at_mm += 7001) {
        size_t point = tl_city_find(line, at_mm, 0);
        assert_in_range(point, 0, line->points_n - 2);
        assert_in_range(at_mm, line->points[point].at_mm, line->points[point + 1].at_mm);
        assert_int_equal(tl_city_find(line, at_mm, line->points_n - 2), point);
        struct tl_city_place place = tl_city_locate(line, at_mm, point);
        assert_true(metres(before, place) < 7.01);
        before = place;
    }
    struct tl_city_place end = tl_city_locate(line, line->length_mm, 5);
    assert_true(metres(end, line->points[line->points_n - 1].place) == 0);
}

static void the_place_is_on_the_map_where_it_should_be(void **state)
{
    (void)state;
    struct tl_city_degrees middle = tl_city_to_degrees((struct tl_city_place){0, 0});
    struct tl_city_degrees away = tl_city_to_degrees((struct tl_city_place){6416800, -11132000});
    assert_int_equal(middle.lat, 54800000);
    assert_int_equal(middle.lon, 2900000);
    assert_int_equal(away.lat, 54700000);
    assert_int_equal(away.lon, 3000000);
}

static void the_same_seed_is_the_same_city(void **state)
{
    (void)state;
    struct tl_city *again, *other;
    struct tl_buf texts[3] = {0};
    assert_int_equal(tl_city_new(&again, 1), 0);
    assert_int_equal(tl_city_new(&other, 2), 0);
    tl_city_geojson(city, &texts[0]);
    tl_city_geojson(again, &texts[1]);
    tl_city_geojson(other, &texts[2]);
    assert_true(tl_bytes_eq(tl_buf_bytes(&texts[0]), tl_buf_bytes(&texts[1])));
    assert_false(tl_bytes_eq(tl_buf_bytes(&texts[0]), tl_buf_bytes(&texts[2])));
    tl_city_free(again);
    tl_city_free(other);
    for (size_t i = 0; i < 3; i++)
        tl_buf_deinit(&texts[i]);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    assert_non_null(text);
    return text;
}

static void assert_position(const json_t *position)
{
    double lon = json_real_value(json_array_get(position, 0));
    double lat = json_real_value(json_array_get(position, 1));
    assert_int_equal(json_array_size(position), 2);
    assert_true(lon > 2.7 && lon < 3.1 && lat > 54.7 && lat < 54.9);
}

/* RFC 7946 3.1.6: closed, and the outside goes anticlockwise. */
static void assert_polygon(const json_t *coordinates)
{
    const json_t *ring = json_array_get(coordinates, 0);
    size_t n = json_array_size(ring);
    double area = 0;
    assert_true(n > 4);
    assert_true(json_equal(json_array_get(ring, 0), json_array_get(ring, n - 1)));
    for (size_t i = 0; i + 1 < n; i++) {
        const json_t *a = json_array_get(ring, i), *b = json_array_get(ring, i + 1);
        assert_position(a);
        area += json_real_value(json_array_get(a, 0)) * json_real_value(json_array_get(b, 1)) -
                json_real_value(json_array_get(b, 0)) * json_real_value(json_array_get(a, 1));
    }
    assert_true(area > 0);
}

static void the_geojson_has_lines_stops_and_landscape(void **state)
{
    (void)state;
    json_t *map = geojson(city);
    json_t *features = json_object_get(map, "features"), *feature;
    size_t i, lines = 0, stops = 0, lands = 0;
    assert_string_equal(text_of(map, "type"), "FeatureCollection");
    assert_string_equal(text_of(map, "name"), city->name);
    json_array_foreach(features, i, feature)
    {
        const json_t *properties = json_object_get(feature, "properties");
        const json_t *geometry = json_object_get(feature, "geometry");
        const json_t *coordinates = json_object_get(geometry, "coordinates");
        const char *type = text_of(geometry, "type");
        assert_string_equal(text_of(feature, "type"), "Feature");
        if (strcmp(type, "LineString") == 0) {
            assert_string_equal(text_of(properties, "mode"), "tram");
            assert_string_equal(text_of(properties, "line"), city->lines[lines].name);
            assert_string_equal(text_of(properties, "color"), city->lines[lines].color);
            assert_string_not_equal(text_of(properties, "from"), text_of(properties, "to"));
            assert_int_equal(json_array_size(coordinates), city->lines[lines].points_n);
            for (size_t j = 0; j < json_array_size(coordinates); j++)
                assert_position(json_array_get(coordinates, j));
            lines++;
        } else if (strcmp(type, "Point") == 0) {
            assert_string_equal(text_of(properties, "stop"), city->stops[stops].name);
            assert_in_range(json_array_size(json_object_get(properties, "lines")), 1, 8);
            assert_position(coordinates);
            stops++;
        } else {
            assert_string_equal(type, "Polygon");
            assert_true(strcmp(text_of(properties, "land"), "water") == 0 ||
                        strcmp(text_of(properties, "land"), "park") == 0);
            assert_true(*text_of(properties, "name"));
            assert_polygon(coordinates);
            lands++;
        }
    }
    assert_int_equal(lines, city->lines_n);
    assert_int_equal(stops, city->stops_n);
    assert_int_equal(lands, city->lands_n);
    json_decref(map);
}

static void other_seeds_make_cities_as_good(void **state)
{
    struct tl_city *first = city;
    for (uint64_t seed = 2; seed < 60; seed++) {
        assert_int_equal(tl_city_new(&city, seed * 0x9e3779b97f4a7c15), 0);
        lines_are_unbroken_and_measured(state);
        headings_are_those_of_a_compass(state);
        lines_bend_smoothly(state);
        stops_are_on_their_lines_and_apart(state);
        tl_city_free(city);
    }
    city = first;
}

static void every_failing_allocation_is_told_and_leaks_nothing(void **state)
{
    (void)state;
    int rc = -ENOMEM;
    int64_t i = 0;
    for (; rc == -ENOMEM; i++) {
        struct tl_city *made = NULL;
        tl_alloc_fail(i, 1);
        rc = tl_city_new(&made, 3);
        tl_alloc_fail(0, 0);
        assert_true((rc == 0) == (made != NULL));
        tl_city_free(made);
    }
    assert_int_equal(rc, 0);
    assert_true(i > 30);
    struct tl_buf text = {0};
    tl_alloc_fail(0, -1);
    tl_city_geojson(city, &text);
    tl_alloc_fail(0, 0);
    assert_true(text.failed);
    tl_buf_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_unbroken_and_measured),
        cmocka_unit_test(headings_are_those_of_a_compass),
        cmocka_unit_test(lines_bend_smoothly),
        cmocka_unit_test(stops_are_on_their_lines_and_apart),
        cmocka_unit_test(names_are_short_and_differ),
        cmocka_unit_test(colors_are_legible_on_white_and_on_black),
        cmocka_unit_test(lines_share_the_streets_of_the_centre),
        cmocka_unit_test(places_are_found_from_anywhere),
        cmocka_unit_test(the_place_is_on_the_map_where_it_should_be),
        cmocka_unit_test(the_same_seed_is_the_same_city),
        cmocka_unit_test(other_seeds_make_cities_as_good),
        cmocka_unit_test(the_geojson_has_lines_stops_and_landscape),
        cmocka_unit_test(every_failing_allocation_is_told_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, make_city, free_city);
}
