# What anyone must know; everything else is meson and ninja in build/ and the scripts of tools/.
BUILD = build

.PHONY: all run test quick soak check fuzz bench bench-quick clean

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	tools/deps build
	meson setup $(BUILD)

run: $(BUILD)/build.ninja
	ninja -C $(BUILD) --quiet tramline
	$(BUILD)/tramline serve --demo

quick test soak fuzz:
	tools/test $@

check:
	tools/check

bench:
	bench/run

bench-quick:
	bench/run --quick

clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-fuzz $(BUILD)-bench
