# supra: turns a transformer into a recurrent model, trains it and runs it. `make help` lists what can be made.
#
# Overrides: CXX=clang++, BUILD=dir, OPENBLAS=no, STB=no, V=1 (show the commands)

CXX      ?= g++
BUILD    ?= build
CONFIG   ?= release
OUT      := $(BUILD)/$(CONFIG)
ARCH     := $(shell uname -m)

CXXFLAGS := -std=c++20 -O3 -g1 -Wall -Wextra -Werror -I. -MMD -MP -pthread
LDFLAGS  := -pthread
ifeq ($(CONFIG),asan)
  CXXFLAGS += -fsanitize=address -fno-omit-frame-pointer -O1
  LDFLAGS  += -fsanitize=address
endif
ifeq ($(CONFIG),ubsan)
  CXXFLAGS += -fsanitize=undefined -fno-sanitize-recover=all -O1
  LDFLAGS  += -fsanitize=undefined
endif
ifeq ($(CONFIG),tsan)
  CXXFLAGS += -fsanitize=thread -O1
  LDFLAGS  += -fsanitize=thread
endif

# What this machine has. A probe compiles one line; the answer is printed by `make`.
probe     = $(shell printf '%s\n' '$(1)' 'int main() {}' | $(CXX) -x c++ - -o /dev/null $(2) >/dev/null 2>&1 && echo yes)
OPENBLAS ?= $(call probe,\#include <openblas_config.h>,-lopenblas)
STB      ?= $(call probe,\#include <stb/stb_image_write.h>,)
GTEST     = $(call probe,\#include <gtest/gtest.h>,-lgtest)
CUDA     ?= $(if $(shell command -v nvcc 2>/dev/null),yes)
ifeq ($(OPENBLAS),yes)
  CXXFLAGS += -DSUPRA_OPENBLAS
  LDLIBS   += -lopenblas
endif
ifeq ($(STB),yes)
  CXXFLAGS += -DSUPRA_STB
endif

# foo.simd.cpp is compiled once a level, everything else once.
LEVELS := baseline
ifeq ($(ARCH),x86_64)
  LEVELS += avx2 avx512
endif
flags_baseline :=
flags_avx2     := -mavx2 -mfma -mf16c
flags_avx512   := $(flags_avx2) -mavx512f -mavx512bw -mavx512vl -mavx512dq

SOURCES  := $(sort $(filter-out %.simd.cpp,$(wildcard tensor/*.cpp autograd/*.cpp kernels/*.cpp nn/*.cpp supra/*.cpp supra/*/*.cpp)))
SIMD     := $(wildcard kernels/*.simd.cpp)
LIBRARY  := $(SOURCES:%.cpp=$(OUT)/%.o) $(foreach level,$(LEVELS),$(SIMD:%.cpp=$(OUT)/%.$(level).o))
PROGRAM  := $(sort $(wildcard tools/*.cpp))
TESTS    := $(sort $(wildcard tests/*.cpp))
quiet    := $(if $(V),,@)

.PHONY: all found test demo teacher asan ubsan tsan loc help clean
.DEFAULT_GOAL := all

all: found $(OUT)/supra ## build the program, build/release/supra
	@echo "built $(OUT)/supra   (next: make demo, or $(OUT)/supra --help)"

$(OUT)/supra: $(PROGRAM:%.cpp=$(OUT)/%.o) $(OUT)/libsupra.a
	@echo "  link $@"
	$(quiet)$(CXX) $(LDFLAGS) $(filter %.o,$^) $(OUT)/libsupra.a $(LDLIBS) -o $@

$(OUT)/libsupra.a: $(LIBRARY)
	$(quiet)rm -f $@ && ar rcs $@ $^

$(OUT)/%.o: %.cpp
	@echo "  $(notdir $(CXX)) $<"
	@mkdir -p $(@D)
	$(quiet)$(CXX) $(CXXFLAGS) -c $< -o $@

define simd_rule
$(OUT)/%.simd.$(1).o: %.simd.cpp
	@echo "  $(notdir $(CXX)) $$< ($(1))"
	@mkdir -p $$(@D)
	$(quiet)$(CXX) $(CXXFLAGS) $(flags_$(1)) -DSUPRA_LEVEL=$(1) -c $$< -o $$@
endef
$(foreach level,$(LEVELS),$(eval $(call simd_rule,$(level))))

$(OUT)/run_tests: $(TESTS:%.cpp=$(OUT)/%.o) $(filter-out $(OUT)/tools/main.o,$(PROGRAM:%.cpp=$(OUT)/%.o)) $(OUT)/libsupra.a
	@echo "  link $@"
	$(quiet)$(CXX) $(LDFLAGS) $(filter %.o,$^) $(OUT)/libsupra.a $(LDLIBS) -lgtest -lgtest_main -o $@

-include $(shell find $(OUT) -name '*.d' 2>/dev/null)
