#include "demo/city_map.h"

/* A stop's name, and metres east and north of Amber Market. */
#define STOPS(STOP)                                                                                \
    STOP(AMBER_MARKET, "Amber Market", 0, 0)                                                       \
    STOP(TOWN_HALL, "Town Hall", -430, 130)                                                        \
    STOP(CENTRAL_STATION, "Central Station", 250, 480)                                             \
    STOP(FISH_STEPS, "Fish Steps", 110, -440)                                                      \
    STOP(SOUTH_BANK, "South Bank", 215, -1165)                                                     \
    STOP(FLINT_STREET, "Flint Street", 470, -40)                                                   \
    STOP(EASTGATE, "Eastgate", 880, 10)                                                            \
    STOP(OBSERVATORY, "Observatory", 190, 1000)                                                    \
    STOP(WESTGATE, "Westgate", -960, 50)                                                           \
    STOP(OTTER_QUAY, "Otter Quay", -660, -380)                                                     \
    STOP(NET_LOFTS, "Net Lofts", -1010, -560)                                                      \
    STOP(GLASS_HALL, "Glass Hall", 660, 780)                                                       \
    STOP(HAZEL_COURT, "Hazel Court", -780, 590)                                                    \
    STOP(HERON_WEIR, "Heron Weir", 1414, 659)                                                      \
    STOP(MUSEUM, "Museum", 1044, 1159)                                                             \
    STOP(MINT, "Mint", 534, 1466)                                                                  \
    STOP(NORTH_RING, "North Ring", -54, 1559)                                                      \
    STOP(THEATRE, "Theatre", -659, 1414)                                                           \
    STOP(REINDEER_GATE, "Reindeer Gate", -1159, 1044)                                              \
    STOP(LAW_COURTS, "Law Courts", -1466, 534)                                                     \
    STOP(WEST_RING, "West Ring", -1559, -54)                                                       \
    STOP(OLD_HARBOUR, "Old Harbour", -1425, -635)                                                  \
    STOP(CUSTOMS_HOUSE, "Customs House", -1122, -1084)                                             \
    STOP(SHIPWRIGHTS, "Shipwrights", -377, -1514)                                                  \
    STOP(SOUTH_RING, "South Ring", 244, -1541)                                                     \
    STOP(UNIVERSITY, "University", 872, -1293)                                                     \
    STOP(GASWORKS, "Gasworks", 1293, -872)                                                         \
    STOP(EAST_RING, "East Ring", 1520, -351)                                                       \
    STOP(LINDEN_ROW, "Linden Row", -150, 2145)                                                     \
    STOP(KILN_LANE, "Kiln Lane", -237, 2710)                                                       \
    STOP(BREWERY, "Brewery", -456, 3248)                                                           \
    STOP(SIGNAL_HILL, "Signal Hill", -800, 3766)                                                   \
    STOP(NORTHLIGHT, "Northlight", -1069, 4289)                                                    \
    STOP(HOSPITAL, "Hospital", 1397, 1608)                                                         \
    STOP(BOTANIC_GARDEN, "Botanic Garden", 1662, 2128)                                             \
    STOP(ORCHARD_CLOSE, "Orchard Close", 1829, 2711)                                               \
    STOP(WREN_COMMON, "Wren Common", 2040, 3265)                                                   \
    STOP(TALL_PINES, "Tall Pines", 2424, 3732)                                                     \
    STOP(SALTWORKS, "Saltworks", 2098, -370)                                                       \
    STOP(LAMP_STREET, "Lamp Street", 2690, -235)                                                   \
    STOP(TANNERY, "Tannery", 3258, -114)                                                           \
    STOP(EEL_PONDS, "Eel Ponds", 3821, -267)                                                       \
    STOP(EASTERLY, "Easterly", 4377, -615)                                                         \
    STOP(POLYTECHNIC, "Polytechnic", 1648, -1334)                                                  \
    STOP(LONG_ACRE, "Long Acre", 1928, -1862)                                                      \
    STOP(AUROCHS_PARK, "Aurochs Park", 2291, -2291)                                                \
    STOP(CLAY_PITS, "Clay Pits", 2824, -2543)                                                      \
    STOP(BRICK_HILL, "Brick Hill", 3381, -2738)                                                    \
    STOP(MILL_ROAD, "Mill Road", 260, -2114)                                                       \
    STOP(COBBLERS, "Cobblers", 141, -2696)                                                         \
    STOP(RACE_COURSE, "Race Course", -114, -3258)                                                  \
    STOP(WINDMILL, "Windmill", -335, -3825)                                                        \
    STOP(SOUTHFOLD, "Southfold", -307, -4389)                                                      \
    STOP(ROPE_WALK, "Rope Walk", -1970, -756)                                                      \
    STOP(COLD_STORE, "Cold Store", -2520, -819)                                                    \
    STOP(MOLE_ROAD, "Mole Road", -3043, -989)                                                      \
    STOP(SAIL_MAKERS, "Sail Makers", -3533, -1286)                                                 \
    STOP(BREAKWATER, "Breakwater", -4014, -1541)                                                   \
    STOP(WOOL_EXCHANGE, "Wool Exchange", -2130, 37)                                                \
    STOP(ELM_GROVE, "Elm Grove", -2690, 235)                                                       \
    STOP(FERRYMANS, "Ferrymans", -3228, 454)                                                       \
    STOP(GULL_HEATH, "Gull Heath", -3783, 532)                                                     \
    STOP(WESTERLY, "Westerly", -4376, 460)                                                         \
    STOP(BELL_STREET, "Bell Street", -1583, 1425)                                                  \
    STOP(CLOISTER, "Cloister", -2091, 1693)                                                        \
    STOP(STAG_PARK, "Stag Park", -2670, 1870)                                                      \
    STOP(BIRCHWOOD, "Birchwood", -3175, 2142)                                                      \
    STOP(MAMMOTH_HILL, "Mammoth Hill", -3560, 2586)                                                \
    STOP(DRY_DOCK, "Dry Dock", -774, -2017)                                                        \
    STOP(CRANES, "Cranes", -1235, -2424)                                                           \
    STOP(TIDE_MILL, "Tide Mill", -1733, -2773)                                                     \
    STOP(TIDEWATER, "Tidewater", -2180, -3113)                                                     \
    STOP(WATERWORKS, "Waterworks", -904, 1939)                                                     \
    STOP(CHAPEL_RISE, "Chapel Rise", -1272, 2393)                                                  \
    STOP(ICE_HOUSE, "Ice House", -1689, 2812)                                                      \
    STOP(MOOR_END, "Moor End", -1983, 3300)                                                        \
    STOP(FOUNDRY, "Foundry", 1166, -1795)                                                          \
    STOP(COTTON_YARD, "Cotton Yard", 1309, -2361)                                                  \
    STOP(ALLOTMENTS, "Allotments", 1429, -2930)                                                    \
    STOP(LARKS_FIELD, "Larks Field", 1739, -3413)                                                  \
    STOP(BOAT_CLUB, "Boat Club", 1851, 1112)                                                       \
    STOP(WILLOW_BEND, "Willow Bend", 2180, 1643)                                                   \
    STOP(REED_CUTTERS, "Reed Cutters", 2491, 2165)                                                 \
    STOP(UPPER_WEIR, "Upper Weir", 2928, 2546)                                                     \
    STOP(PEAT_STREET, "Peat Street", -3143, 901)                                                   \
    STOP(BOG_COTTON, "Bog Cotton", -3548, 1362)                                                    \
    STOP(FEN_EDGE, "Fen Edge", -4033, 1630)

enum {
#define ROW(id, name, east, north) id,
    STOPS(ROW)
#undef ROW
        STOPS_N
};

static const struct tl_map_stop stops[] = {
#define ROW(id, name, east, north) [id] = {name, {east, north}},
    STOPS(ROW)
#undef ROW
};

/* A street is a smooth curve through its stops; lines that share one share its curve. */
static const uint8_t ring[] = {HERON_WEIR,  MUSEUM,        MINT,        NORTH_RING,
                               THEATRE,     REINDEER_GATE, LAW_COURTS,  WEST_RING,
                               OLD_HARBOUR, CUSTOMS_HOUSE, SHIPWRIGHTS, SOUTH_RING,
                               UNIVERSITY,  GASWORKS,      EAST_RING,   HERON_WEIR};
static const uint8_t high_street[] = {WESTERLY,  GULL_HEATH, FERRYMANS, ELM_GROVE,    WOOL_EXCHANGE,
                                      WEST_RING, WESTGATE,   TOWN_HALL, AMBER_MARKET, FLINT_STREET,
                                      EASTGATE,  EAST_RING,  SALTWORKS, LAMP_STREET,  TANNERY,
                                      EEL_PONDS, EASTERLY};
static const uint8_t station_road[] = {
    NORTHLIGHT,  SIGNAL_HILL,     BREWERY,      KILN_LANE,  LINDEN_ROW, NORTH_RING,
    OBSERVATORY, CENTRAL_STATION, AMBER_MARKET, FISH_STEPS, SOUTH_BANK, SOUTH_RING,
    MILL_ROAD,   COBBLERS,        RACE_COURSE,  WINDMILL,   SOUTHFOLD};
static const uint8_t garden_road[] = {TALL_PINES, WREN_COMMON, ORCHARD_CLOSE, BOTANIC_GARDEN,
                                      HOSPITAL,   MUSEUM,      GLASS_HALL,    CENTRAL_STATION};
static const uint8_t stag_road[] = {MAMMOTH_HILL, BIRCHWOOD,     STAG_PARK,   CLOISTER,
                                    BELL_STREET,  REINDEER_GATE, HAZEL_COURT, TOWN_HALL};
static const uint8_t harbour_road[] = {BREAKWATER,  SAIL_MAKERS, MOLE_ROAD,  COLD_STORE, ROPE_WALK,
                                       OLD_HARBOUR, NET_LOFTS,   OTTER_QUAY, TOWN_HALL};
static const uint8_t brick_road[] = {BRICK_HILL, CLAY_PITS,   AUROCHS_PARK,
                                     LONG_ACRE,  POLYTECHNIC, GASWORKS};
static const uint8_t polytechnic_lane[] = {POLYTECHNIC, UNIVERSITY};
static const uint8_t dock_road[] = {TIDEWATER, TIDE_MILL, CRANES, DRY_DOCK, SHIPWRIGHTS};
static const uint8_t moor_road[] = {MOOR_END, ICE_HOUSE, CHAPEL_RISE, WATERWORKS, THEATRE};
static const uint8_t foundry_road[] = {LARKS_FIELD, ALLOTMENTS, COTTON_YARD, FOUNDRY, UNIVERSITY};
static const uint8_t river_road[] = {UPPER_WEIR, REED_CUTTERS, WILLOW_BEND,
                                     BOAT_CLUB,  HERON_WEIR,   EASTGATE};
static const uint8_t fen_road[] = {FEN_EDGE, BOG_COTTON, PEAT_STREET, ELM_GROVE};

#define STREET(s)                                                                                  \
    {                                                                                              \
        (s), sizeof(s)                                                                             \
    }
static const struct tl_map_street streets[] = {
    STREET(ring),      STREET(high_street),  STREET(station_road), STREET(garden_road),
    STREET(stag_road), STREET(harbour_road), STREET(brick_road),   STREET(polytechnic_lane),
    STREET(dock_road), STREET(moor_road),    STREET(foundry_road), STREET(river_road),
    STREET(fen_road),
};

static const uint8_t line_1[] = {WESTERLY,  GULL_HEATH, FERRYMANS, ELM_GROVE,    WOOL_EXCHANGE,
                                 WEST_RING, WESTGATE,   TOWN_HALL, AMBER_MARKET, FLINT_STREET,
                                 EASTGATE,  EAST_RING,  SALTWORKS, LAMP_STREET,  TANNERY,
                                 EEL_PONDS, EASTERLY};
static const uint8_t line_2[] = {
    NORTHLIGHT,  SIGNAL_HILL,     BREWERY,      KILN_LANE,  LINDEN_ROW, NORTH_RING,
    OBSERVATORY, CENTRAL_STATION, AMBER_MARKET, FISH_STEPS, SOUTH_BANK, SOUTH_RING,
    MILL_ROAD,   COBBLERS,        RACE_COURSE,  WINDMILL,   SOUTHFOLD};
static const uint8_t line_3[] = {MAMMOTH_HILL,  BIRCHWOOD,   STAG_PARK,  CLOISTER,     BELL_STREET,
                                 REINDEER_GATE, HAZEL_COURT, TOWN_HALL,  AMBER_MARKET, FISH_STEPS,
                                 SOUTH_BANK,    SOUTH_RING,  UNIVERSITY, POLYTECHNIC,  LONG_ACRE,
                                 AUROCHS_PARK,  CLAY_PITS,   BRICK_HILL};
static const uint8_t line_4[] = {
    BOTANIC_GARDEN, HOSPITAL,  MUSEUM,      MINT,          NORTH_RING,  THEATRE,    REINDEER_GATE,
    LAW_COURTS,     WEST_RING, OLD_HARBOUR, CUSTOMS_HOUSE, SHIPWRIGHTS, SOUTH_RING, UNIVERSITY,
    GASWORKS,       EAST_RING, SALTWORKS,   LAMP_STREET,   TANNERY};
static const uint8_t line_5[] = {
    BREAKWATER, SAIL_MAKERS, MOLE_ROAD,      COLD_STORE,    ROPE_WALK,       OLD_HARBOUR,
    NET_LOFTS,  OTTER_QUAY,  TOWN_HALL,      AMBER_MARKET,  CENTRAL_STATION, GLASS_HALL,
    MUSEUM,     HOSPITAL,    BOTANIC_GARDEN, ORCHARD_CLOSE, WREN_COMMON,     TALL_PINES};
static const uint8_t line_6[] = {LARKS_FIELD, ALLOTMENTS,  COTTON_YARD,     FOUNDRY,
                                 UNIVERSITY,  GASWORKS,    EAST_RING,       HERON_WEIR,
                                 MUSEUM,      GLASS_HALL,  CENTRAL_STATION, AMBER_MARKET,
                                 TOWN_HALL,   HAZEL_COURT, REINDEER_GATE,   LAW_COURTS};
static const uint8_t line_7[] = {MOOR_END,   ICE_HOUSE,   CHAPEL_RISE,     WATERWORKS,   THEATRE,
                                 NORTH_RING, OBSERVATORY, CENTRAL_STATION, AMBER_MARKET, FISH_STEPS,
                                 SOUTH_BANK, SOUTH_RING,  SHIPWRIGHTS,     DRY_DOCK,     CRANES,
                                 TIDE_MILL,  TIDEWATER};
static const uint8_t line_8[] = {UPPER_WEIR, REED_CUTTERS, WILLOW_BEND,  BOAT_CLUB,
                                 HERON_WEIR, EASTGATE,     FLINT_STREET, AMBER_MARKET,
                                 TOWN_HALL,  WESTGATE,     WEST_RING,    WOOL_EXCHANGE,
                                 ELM_GROVE,  PEAT_STREET,  BOG_COTTON,   FEN_EDGE};

static const struct tl_map_line lines[] = {
    {"1", "#d9363e", {line_1, sizeof line_1}}, {"2", "#2f7de1", {line_2, sizeof line_2}},
    {"3", "#2b9348", {line_3, sizeof line_3}}, {"4", "#d97706", {line_4, sizeof line_4}},
    {"5", "#9254de", {line_5, sizeof line_5}}, {"6", "#0f9ba8", {line_6, sizeof line_6}},
    {"7", "#d6409f", {line_7, sizeof line_7}}, {"8", "#957a14", {line_8, sizeof line_8}},
};

/* Banks and borders, anticlockwise as RFC 7946 3.1.6 wants the outside of a polygon. */
static const struct tl_map_place silverpit[] = {
    {7176, 3344},   {5975, 2696},   {4882, 2102},   {3885, 1956},   {2868, 1551},   {2106, 864},
    {1509, 201},    {1104, -375},   {597, -739},    {83, -757},     {-455, -1019},  {-928, -1325},
    {-1733, -1465}, {-2566, -1838}, {-3392, -2334}, {-4504, -2719}, {-5734, -2889}, {-6996, -3028},
    {-6604, -4372}, {-5466, -3811}, {-4296, -3281}, {-3208, -2666}, {-2434, -2062}, {-1667, -1655},
    {-872, -1475},  {-385, -1141},  {117, -883},    {643, -861},    {1196, -465},   {1611, 119},
    {2194, 776},    {2932, 1449},   {3915, 1844},   {4918, 1998},   {6025, 2604},   {7224, 3256}};
static const struct tl_map_place stag_park[] = {{-2059, 2429}, {-2382, 2576}, {-2745, 2600},
                                                {-3043, 2385}, {-2815, 2139}, {-2485, 2011},
                                                {-2206, 2181}};
static const struct tl_map_place palace_garden[] = {{-65, 954},  {-260, 1109}, {-502, 1095},
                                                    {-555, 854}, {-416, 644},  {-171, 720}};
static const struct tl_map_place botanic_garden[] = {
    {1294, 2640}, {1076, 2681}, {856, 2527}, {914, 2173}, {1081, 2002}, {1295, 2021}, {1370, 2331}};
static const struct tl_map_place aurochs_park[] = {{2226, -2425}, {1995, -2113}, {1706, -2022},
                                                   {1421, -2283}, {1537, -2714}, {1775, -2971},
                                                   {2057, -2809}};
static const struct tl_map_place wren_common[] = {{3035, 3446}, {2629, 3566}, {2263, 3438},
                                                  {2215, 3079}, {2611, 2963}, {2996, 3073}};
static const struct tl_map_place race_course[] = {{-536, -3330},  {-779, -3083},  {-1144, -3051},
                                                  {-1364, -3330}, {-1121, -3577}, {-756, -3609}};
static const struct tl_map_place gull_heath[] = {{-2889, -188}, {-3260, -47},  {-3645, -15},
                                                 {-3983, -176}, {-3818, -402}, {-3462, -526},
                                                 {-3113, -404}};

static const struct tl_map_land lands[] = {
    {"water", "Silverpit", silverpit, sizeof silverpit / sizeof *silverpit},
    {"park", "Stag Park", stag_park, sizeof stag_park / sizeof *stag_park},
    {"park", "Palace Garden", palace_garden, sizeof palace_garden / sizeof *palace_garden},
    {"park", "Botanic Garden", botanic_garden, sizeof botanic_garden / sizeof *botanic_garden},
    {"park", "Aurochs Park", aurochs_park, sizeof aurochs_park / sizeof *aurochs_park},
    {"park", "Wren Common", wren_common, sizeof wren_common / sizeof *wren_common},
    {"park", "Race Course", race_course, sizeof race_course / sizeof *race_course},
    {"park", "Gull Heath", gull_heath, sizeof gull_heath / sizeof *gull_heath},
};

const struct tl_map tl_demo_map = {
    .name = "Doggerhaven",
    .stops = stops,
    .stops_n = STOPS_N,
    .streets = streets,
    .streets_n = sizeof streets / sizeof *streets,
    .lines = lines,
    .lines_n = sizeof lines / sizeof *lines,
    .lands = lands,
    .lands_n = sizeof lands / sizeof *lands,
};
