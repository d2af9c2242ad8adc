# supra: turns a transformer into a recurrent model, trains it and runs it. `make help` lists all targets.
#
# Overrides: CXX=clang++  BUILD=dir  OPENBLAS=no  STB=no  WERROR=  FILTER='Args.*' (tests to run)  V=1 (show the commands)
# make cuda builds in its own directory. GPU=90 builds only for compute capability 9.0, NVCC=path uses another nvcc than the one it
# finds. make CONFIG=cuda test runs the tests of that build, on the GPU.

BUILD    ?= build
$(if $(word 2,$(BUILD)$(PREFIX)$(DESTDIR)),$(error BUILD, PREFIX and DESTDIR: make does not support names with spaces))
CONFIG   ?= release
# If the user names a compiler, nvcc uses it too.
GIVEN_CXX := $(if $(filter default undefined,$(origin CXX)),,$(CXX))
# libFuzzer comes with clang.
ifeq ($(origin CXX),default)
  CXX    := $(firstword $(foreach name,$(if $(filter fuzz,$(CONFIG)),clang++) g++ clang++,$(if $(shell command -v $(name)),$(name))) g++)
endif
OUT      := $(BUILD)/$(CONFIG)
OBJ      := $(OUT)/objects
ARCH     := $(firstword $(subst -, ,$(shell $(CXX) -dumpmachine)))
WERROR   ?= -Werror
quiet    := $(if $(V),,@)

# As many jobs as cores, unless -j or a parent make sets the number.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
  MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)
endif

CXXFLAGS := -std=c++20 $(if $(filter embed static,$(CONFIG)),-Os,-O3) -g1 -Wall -Wextra $(WERROR) -I. -MMD -MP -pthread
LDFLAGS  := -pthread
LDLIBS   := -ldl
CLANG    := $(shell $(CXX) --version | grep clang)
# g++ 12 warns of an overlap inside its own std::string (GCC bug 105651).
CXXFLAGS += $(if $(CLANG),,-Wno-restrict)

# Sanitized builds live beside the release, in build/<config>; `make asan` and its sisters run the tests in them.
SANITIZE_asan  := -fsanitize=address -D_GLIBCXX_ASSERTIONS
SANITIZE_ubsan := -fsanitize=undefined -fno-sanitize-recover=all
SANITIZE_tsan  := -fsanitize=thread
SANITIZE_fuzz  := -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -D_GLIBCXX_ASSERTIONS
ifneq ($(SANITIZE_$(CONFIG)),)
  CXXFLAGS += -O1 -fno-omit-frame-pointer $(SANITIZE_$(CONFIG))
  LDFLAGS  += $(SANITIZE_$(CONFIG))
endif

# Tests what this machine has: compiles one line with a header and a library.
probe    = $(shell echo '$(or $(3),int main() {})' | $(CXX) -std=c++20 $(1) -x c++ - -o /dev/null $(2) >/dev/null 2>&1 && echo yes)
ifeq ($(CONFIG),fuzz)
  OPENBLAS := no
  LIBFUZZER := $(call probe,-fsanitize=fuzzer,,extern "C" int LLVMFuzzerTestOneInput() { return 0; })
  CXXFLAGS += $(if $(LIBFUZZER),-fsanitize=fuzzer-no-link -DSUPRA_LIBFUZZER)
endif
# Builds for inference alone: the library for host programs, and the static program.
ifneq ($(filter embed static,$(CONFIG)),)
  OPENBLAS := no
  CXXFLAGS += -DSUPRA_INFERENCE -ffunction-sections -fdata-sections -Wno-unused-function
  LDFLAGS  += -static -Wl,--gc-sections
endif
# sections share pages, which makes the file smaller
ifeq ($(CONFIG),static)
  LDFLAGS  += -Wl,-z,noseparate-code
endif
ifeq ($(CONFIG),embed)
  CXXFLAGS += -DSUPRA_EMBED -fPIC -fvisibility=hidden
else ifeq ($(CONFIG)$(CLANG),static)
  CXXFLAGS += -flto=auto
  LDFLAGS  += -flto=auto
endif
OPENBLAS ?= $(call probe,-include openblas_config.h,-lopenblas)
OPENBLAS := $(OPENBLAS)
GTEST     = $(call probe,-include gtest/gtest.h,-lgtest)
STB      ?= $(call probe,-include stb/stb_image_write.h)
FIND_NVCC = sh tools/build/find_nvcc.sh '$(NVCC)' '$(GIVEN_CXX)'
ifeq ($(OPENBLAS),yes)
  CXXFLAGS += -DSUPRA_OPENBLAS
  LDLIBS   += -lopenblas
endif

# In a build with CUDA, nvcc compiles the .cu files. Other builds leave them out, except for the tests: there the C++
# compiler compiles them, and their kernels run on an emulator.
CU       := $(wildcard tensor/*.cu kernels/*.cu)
EMULATOR := tests/gpu/emulator
EMULATED := -I$(EMULATOR) -Wno-unknown-pragmas
ifeq ($(CONFIG),cuda)
  FOUND     := $(shell $(FIND_NVCC) || echo missing)
  ifeq ($(lastword $(FOUND)),missing)
    $(error $(strip $(FOUND:missing=)))
  endif
  override NVCC := $(word 1,$(FOUND))
  CXXFLAGS  += -DSUPRA_CUDA
  CUDA_LIB  := $(abspath $(dir $(NVCC))../lib64)
  LDFLAGS   += -L$(CUDA_LIB) -Wl,-rpath,$(CUDA_LIB)
  LDLIBS    += -lcudart_static -lrt -lcublasLt
  GENCODE   := -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]
  NVCCFLAGS := -std=c++20 -O3 -I. -MMD -MP -DSUPRA_CUDA --expt-relaxed-constexpr -ccbin $(word 2,$(FOUND)) \
               -Xcompiler -Wall,-Wextra,-pthread $(if $(WERROR),-Werror all-warnings) --no-compress \
               $(if $(GPU),-arch=sm_$(GPU),$(GENCODE))
  CUDA_OBJECTS     := $(CU:%=$(OBJ)/%.o)
else
  EMULATOR_OBJECTS := $(CU:%=$(OBJ)/%.o) $(patsubst %.cpp,$(OBJ)/%.o,$(wildcard $(EMULATOR)/*.cpp))
endif

# foo.simd.cpp is compiled once for each level, everything else once.
LEVELS := baseline $(if $(filter x86_64,$(ARCH)),avx2 avx512)
# levels that differ from avx512 in one file only
BF16_LEVELS := $(if $(filter x86_64,$(ARCH)),avx512bf16 amx)
flags_avx2   := -mavx2 -mfma -mf16c
flags_avx512 := $(flags_avx2) -mavx512f -mavx512bw -mavx512vl -mavx512dq
flags_avx512bf16 := $(flags_avx512) -mavx512bf16
flags_amx    := $(flags_avx512bf16) -mamx-tile -mamx-bf16 -DSUPRA_AMX
# for builds with -Os. Few x86 processors need the baseline, so it is made small there; on other processors it is the only level
speed_baseline := $(if $(filter avx2,$(LEVELS)),-Os,-O2)
speed_avx2     := -O2
speed_avx512   := -O2
speed_avx512bf16 := -O2
speed_amx      := -O2
# with -Os these are three quarters smaller, and they take a small part of a model's time
SMALL_SIMD     := elementwise swiglu softmax_features

FOLDERS := tensor autograd kernels nn supra tools
LIBRARY := $(foreach folder,$(filter-out tools,$(FOLDERS)),$(folder)/*.cpp) supra/*/*.cpp supra/*/*/*.cpp
# linked into the library for hosts; feature_stubs.cpp also into the static program
HOSTS   := $(patsubst %,supra/embed/%.cpp,allocator format_stubs feature_stubs)
# linked into the library, but not part of its one-file form
UNWIND  := supra/embed/unwind_tables.cpp
SOURCES := $(sort $(filter-out %.simd.cpp $(HOSTS) $(UNWIND),$(wildcard $(LIBRARY))))
SIMD    := $(sort $(wildcard kernels/*.simd.cpp))
TOOLS   := tools/*.cpp tools/*/*.cpp

# TRAINING: left out of builds for inference. SPARED: also left out of the library for hosts.
TRAINING := %/transformers_export.cpp %/optim.cpp %/adamw.cpp %/adamw.simd.cpp %/roofs.simd.cpp %/products.cpp %/bf16_gemm.simd.cpp supra/linearize.cpp %/verify.cpp \
  $(filter-out %/perplexity.cpp,$(wildcard supra/evaluation/*.cpp)) %/teacher_file.cpp %/training_state.cpp supra/training/%
SPARED   := $(TRAINING) supra/evaluation/% %/corpus.cpp %/shard.cpp \
  %/cross_entropy.simd.cpp %/generate.cpp %/foreign_models.cpp %/hf_config.cpp %/hf_export.cpp \
  %/rope_scaling.cpp %/gguf.cpp %/gguf_config.cpp %/gguf_vocabulary.cpp %/gguf_words.cpp %/ggml_blocks.cpp %/llama2c.cpp %/torch_file.cpp \
  %/torch_writer.cpp %/pickle.cpp %/zip.cpp
ifeq ($(CONFIG),static)
  SOURCES := $(filter-out $(TRAINING),$(SOURCES)) supra/embed/feature_stubs.cpp
  SIMD    := $(filter-out $(TRAINING),$(SIMD))
  TOOLS   := $(patsubst %,tools/%.cpp,main args human progress interrupt window_report inspect tokenize convert quantize generate chat doctor)
endif
objects      = $(patsubst %.cpp,$(OBJ)/%.o,$(sort $(wildcard $(1))))
simd_objects = $(foreach level,$(LEVELS),$(patsubst %.cpp,$(OBJ)/%.$(level).o,$(1))) \
  $(foreach level,$(BF16_LEVELS),$(patsubst %.cpp,$(OBJ)/%.$(level).o,$(filter %/bf16_gemm.simd.cpp,$(1))))
LIBRARY_OBJECTS := $(SOURCES:%.cpp=$(OBJ)/%.o) $(CUDA_OBJECTS) $(call simd_objects,$(SIMD))

.PHONY: all found test-packages test transformers-check cuda cuda-report emu gpu-check demo lab web study teacher asan ubsan tsan fuzz loc check format help clean FORCE
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

all: found $(OUT)/supra ## build the program, build/release/supra
	@echo "built $(OUT)/supra   (next: make demo, or $(OUT)/supra --help)"

# ✓ what was found, ✗ what was not found, with the consequence and how to install it.
found:
	@say() { if [ -n "$$1" ]; then echo "✓ $$2"; else echo "✗ $$2: $$3"; fi; }; \
	say '$(call probe)' '$(CXX)' 'missing, or knows no C++20 (apt-get install g++)'; \
	say '$(filter yes,$(OPENBLAS))' 'OpenBLAS' 'the built-in matrix product is used (apt-get install libopenblas-dev)'; \
	if nvcc=$$($(FIND_NVCC)); then say yes "CUDA: make cuda builds for GPUs ($${nvcc% *})"; else say '' 'CUDA, for GPUs' "$$nvcc"; fi; \
	say '$(filter yes,$(STB))' 'stb_image_write' 'plot, demo, lab and compare write no pictures (apt-get install libstb-dev)'; \
	say '$(GTEST)' 'GoogleTest' 'only tests need it, make test fetches it (apt-get install libgtest-dev)'

$(OUT)/supra: $(call objects,$(TOOLS)) $(if $(filter static,$(CONFIG)),$(LIBRARY_OBJECTS),$(OUT)/libsupra.a)
	@echo "  link $@"
	$(quiet)$(CXX) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(OUT)/libsupra.a: $(LIBRARY_OBJECTS)
	$(quiet)rm -f $@ && ar rcs $@ $^

$(OBJ)/%.o: %.cpp $(OUT)/flags
	@echo "  $(notdir $(CXX)) $<"
	@mkdir -p $(@D)
	$(quiet)$(CXX) $(CXXFLAGS) -c $< -o $@

# Registers, shared memory and spills of every kernel are in the .log beside its object.
ifeq ($(CONFIG),cuda)
$(OBJ)/%.cu.o: %.cu $(OUT)/flags
	@echo "  nvcc $<"
	@mkdir -p $(@D)
	$(quiet)$(NVCC) $(NVCCFLAGS) -Xptxas -v -c $< -o $@ \
	  2>$(@:.o=.log) || { cat $(@:.o=.log); exit 1; }
else
$(OBJ)/%.cu.o: %.cu $(OUT)/flags
	@echo "  $(notdir $(CXX)) $< (emulated)"
	@mkdir -p $(@D)
	$(quiet)$(CXX) $(CXXFLAGS) $(EMULATED) -x c++ -c $< -o $@
endif
$(OBJ)/$(EMULATOR)/%.o: private CXXFLAGS += $(EMULATED)

define simd_rule
$(OBJ)/%.simd.$(1).o: %.simd.cpp $(OUT)/flags
	@echo "  $(notdir $(CXX)) $$< ($(1))"
	@mkdir -p $$(@D)
	$(quiet)$(CXX) $$(CXXFLAGS:-Os=$$(if $$(filter $$(SMALL_SIMD),$$(*F)),-Os,$(speed_$(1)))) $(flags_$(1)) -DSUPRA_LEVEL=$(1) -c $$< -o $$@
endef
$(foreach level,$(LEVELS) $(BF16_LEVELS),$(eval $(call simd_rule,$(level))))

# The program embeds this file.
$(OBJ)/supra/formats/export/transformers_export.o: supra/formats/export/modeling_supra.py

# Contains the flags of the last build and changes only if they change, so that new flags rebuild without make clean. Flags of one
# target must be private: otherwise this file would get them if that target is built first.
FLAGS = $(strip $(CXX) $(CXXFLAGS) $(LDFLAGS) $(LDLIBS) $(NVCCFLAGS))
$(OUT)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' > $@

# The same for stb, which two files use.
$(OUT)/stb: FORCE $(if $(filter test run_tests,$(notdir $(MAKECMDGOALS))),| test-packages)
	@mkdir -p $(@D)
	@echo '$(STB)' | cmp -s - $@ || echo '$(STB)' > $@
$(OBJ)/tools/plot/png.o $(OBJ)/tests/tools/plot_test.o: $(OUT)/stb
$(OBJ)/tools/plot/png.o $(OBJ)/tests/tools/plot_test.o: private CXXFLAGS += $(if $(filter yes,$(STB)),-DSUPRA_STB)

# The library for hosts, build/embed/lib: one object, in which only the functions of supra.h are visible. It includes the
# parts of the C++ library that it uses, so that their memory comes from the engine too. A host needs no C++ library, and
# if it has its own, the two do not conflict.
EMBEDDED      := $(filter-out $(SPARED),$(SOURCES)) $(HOSTS)
EMBEDDED_SIMD := $(filter-out $(SPARED),$(SIMD))
API     := $(shell sed -n 's/^SUPRA_API //;T;s/\x28.*//;s/.*[ *]//p' supra/supra.h)
LIB     := $(OUT)/lib
OBJCOPY := $(shell $(CXX) -print-prog-name=objcopy)
.PHONY: lib install install-lib static amalgamation
lib: $(LIB)/libsupra.a $(LIB)/libsupra.so.1 ## with CONFIG=embed: build the library for hosts, build/embed/lib

$(LIB)/whole.o: $(patsubst %.cpp,$(OBJ)/%.o,$(EMBEDDED) $(UNWIND)) $(call simd_objects,$(EMBEDDED_SIMD))
	@echo "  link $@"
	@mkdir -p $(@D)
	$(quiet)$(CXX) -r -nostdlib -Wl,--gc-sections,--force-group-allocation $(API:%=-Wl,-u,%) $^ \
	  -Wl,-Bstatic,--start-group -lstdc++ -lgcc_eh -lgcc -Wl,--end-group -o $@
# names that are unique in a process lose that property only if they are weak
	$(quiet)$(OBJCOPY) -w --weaken-symbol='_Z*' $@
	$(quiet)$(OBJCOPY) -w --keep-global-symbol='supra_*' --strip-unneeded -R .note.stapsdt -R .stapsdt.base $@

# The archive has its unwind tables in a section that linkers do not change, from the name supra_unwind_tables to a zero.
# supra/embed/unwind_tables.cpp registers them, because a program linked with -static may lack the header that leads to .eh_frame.
table_part = printf '.section supra_eh_frame,"a"\n$(1)\n.section .note.GNU-stack,""\n' | $(CXX) -c -x assembler - -o
$(LIB)/libsupra.o: $(LIB)/whole.o
	$(quiet)$(call table_part,.globl supra_unwind_tables\nsupra_unwind_tables:) $(LIB)/begin.o
	$(quiet)$(OBJCOPY) --rename-section .eh_frame=supra_eh_frame $< $(LIB)/middle.o
	$(quiet)$(call table_part,.long 0) $(LIB)/end.o
	$(quiet)$(CXX) -r -nostdlib $(LIB)/begin.o $(LIB)/middle.o $(LIB)/end.o -o $@
	$(quiet)$(OBJCOPY) --localize-symbol=supra_unwind_tables $@

$(LIB)/libsupra.a: $(LIB)/libsupra.o
	$(quiet)rm -f $@ && ar rcs $@ $<

$(LIB)/libsupra.so.1: $(LIB)/whole.o
	$(quiet)$(CXX) -shared -nodefaultlibs -Wl,-soname,libsupra.so.1,-z,defs $< -lm -lc -lgcc -o $@

# PREFIX=$HOME/.local installs without root rights; DESTDIR is for packagers.
PREFIX ?= /usr/local
TO      = $(DESTDIR)$(abspath $(PREFIX))
VERSION = $(shell sed -n 's/^\#define SUPRA_VERSION "\(.*\)"/\1/p' tools/main.cpp)
install: all install-lib ## install the program, its manual, the demo's teacher, supra.h and the library for hosts into PREFIX (/usr/local)
	@mkdir -p $(addprefix $(TO)/,bin share/man/man1 share/supra/teacher)
	install $(OUT)/supra $(TO)/bin/
	install -m 644 $(addprefix tools/demo/teacher/,config.json model.safetensors tokenizer.bin) $(TO)/share/supra/teacher/
	$(OUT)/supra --help | awk -f tools/build/manual.awk > $(TO)/share/man/man1/supra.1

install-lib: ## install only supra.h and the library for hosts
	@$(MAKE) --no-print-directory CONFIG=embed lib
	@mkdir -p $(addprefix $(TO)/,include lib/pkgconfig)
	install -m 644 supra/supra.h $(TO)/include/
	install -m 644 $(BUILD)/embed/lib/libsupra.a $(BUILD)/embed/lib/libsupra.so.1 $(TO)/lib/
	ln -sf libsupra.so.1 $(TO)/lib/libsupra.so
	printf '%s\n' 'prefix=$(abspath $(PREFIX))' 'Name: supra' 'Description: recurrent language models in a host' \
	  'Version: $(VERSION)' 'Cflags: -I$${prefix}/include' 'Libs: -L$${prefix}/lib -lsupra' 'Libs.private: -lm' \
	  > $(TO)/lib/pkgconfig/supra.pc

static: ## build a static program that runs models, below 2 MB: build/static/supra
	@$(MAKE) --no-print-directory CONFIG=static $(BUILD)/static/supra
	$(quiet)$(shell $(CXX) -print-prog-name=strip) $(BUILD)/static/supra
	@ls -l $(BUILD)/static/supra

AMALGAMATION := $(BUILD)/amalgamation
amalgamation: $(AMALGAMATION)/supra_embed.cpp ## write the library for hosts as two files: build/amalgamation
$(AMALGAMATION)/supra_embed.cpp: tools/build/amalgamate.awk $(EMBEDDED) $(EMBEDDED_SIMD) $(wildcard */*.h supra/*/*.h supra/*/*/*.h)
	@mkdir -p $(@D)
	$(quiet)cp supra/supra.h $(@D)
	$(quiet)printf "%s\n" $(EMBEDDED) $(EMBEDDED_SIMD) | awk -f tools/build/amalgamate.awk > $@

# The library for hosts in WebAssembly, and a page that uses it. A page that is opened as a file can load only scripts, so the
# library and the student are strings in scripts.
WEB      := $(BUILD)/web
STUDENT  := build/demo/student
EMFLAGS  := -std=c++20 -O2 -msimd128 -fwasm-exceptions -sSTANDALONE_WASM --no-entry -sALLOW_MEMORY_GROWTH -sMAXIMUM_MEMORY=4GB \
  -sERROR_ON_UNDEFINED_SYMBOLS=0 -sWARN_ON_UNDEFINED_SYMBOLS=0
as_script = { printf 'const $(1) = "'; base64 $(2) | tr -d '\n'; echo '";'; } >
web: all $(WEB)/supra.js ## build a page that runs the student of make demo in a browser: build/web/index.html
	$(quiet)cp tools/web/index.html tools/web/*.js $(WEB)
	$(quiet)if [ -d $(STUDENT) ]; then \
	  rm -f $(WEB)/student.supra; $(OUT)/supra convert $(STUDENT) -o $(WEB)/student.supra --to packed && $(call as_script,supraStudent,$(WEB)/student.supra) $(WEB)/student.js; \
	else echo 'const supraStudent = "";' > $(WEB)/student.js; echo 'no student in $(STUDENT) (make demo): the page asks for a model'; fi
	@echo "open $(WEB)/index.html"

$(WEB)/supra.js: $(WEB)/supra.wasm
	$(quiet)$(call as_script,supraLibrary,$<) $@

$(WEB)/supra.wasm: $(AMALGAMATION)/supra_embed.cpp
	@command -v emcc >/dev/null || { echo 'make web needs emscripten: sudo apt-get install --no-install-recommends emscripten'; exit 1; }
	@echo "  emcc $<"
	@mkdir -p $(@D)
	$(quiet)emcc $(EMFLAGS) -sEXPORTED_FUNCTIONS=_malloc,_free,_aligned_alloc$$(printf ,_%s $(API)) $< -o $@

TEST_SOURCES := $(filter-out tests/embed/%,$(wildcard tests/*/*_test.cpp tests/supra/*/*_test.cpp))
TEST_OBJECTS := $(call objects,$(TEST_SOURCES)) $(patsubst %,$(OBJ)/%.o,$(wildcard tests/gpu/*.cu))
$(OUT)/run_tests: $(TEST_OBJECTS) $(OBJ)/tests/fuzz/parsers.o \
                  $(filter-out %/main.o,$(call objects,$(TOOLS))) \
                  $(EMULATOR_OBJECTS) $(OUT)/libsupra.a
	@echo "  link $@"
	$(quiet)$(CXX) $(LDFLAGS) $(filter %.o,$^) $(OUT)/libsupra.a -lgtest -lgtest_main $(LDLIBS) -o $@

# The tests of the library for hosts, with its own allocator (supra/embed/allocator.cpp).
EMBED_TESTS := $(call objects,tests/embed/*_test.cpp)
$(OUT)/run_embed_tests: $(EMBED_TESTS) $(OBJ)/supra/embed/allocator.o $(OUT)/libsupra.a
	@echo "  link $@"
	$(quiet)$(CXX) $(LDFLAGS) $(filter %.o,$^) $(OUT)/libsupra.a -lgtest -lgtest_main $(LDLIBS) -o $@

# Tests compile in two thirds of the time at -O1; most of the code that they run is in the library, which is at -O3. g++ reads
# GoogleTest once for all tests: it finds the precompiled header beside the header's name.
$(TEST_OBJECTS) $(EMBED_TESTS): private CXXFLAGS += -O1
# std::regex under a sanitizer (GCC bug 105562)
$(OBJ)/tests/supra/reading_test.o: private CXXFLAGS += $(if $(CLANG),,-Wno-maybe-uninitialized)
$(TEST_OBJECTS) $(EMBED_TESTS): | test-packages
ifeq ($(CLANG),)
TEST_HEADER := $(OBJ)/tests/support.h
$(filter-out %.cu.o,$(TEST_OBJECTS)) $(EMBED_TESTS): private CXXFLAGS += -include $(TEST_HEADER)
$(filter-out %.cu.o,$(TEST_OBJECTS)) $(EMBED_TESTS): $(TEST_HEADER).gch
$(TEST_HEADER).gch: private CXXFLAGS += -O1
$(TEST_HEADER).gch: tests/support.h $(OUT)/flags | test-packages
	@echo "  $(notdir $(CXX)) $< (precompiled)"
	@mkdir -p $(@D)
	@echo '#include "$<"' > $(TEST_HEADER)
	$(quiet)$(CXX) $(CXXFLAGS) -x c++-header $(TEST_HEADER) -o $@
endif

$(OUT)/fuzz_parsers: $(filter-out %_test.o,$(call objects,tests/fuzz/*.cpp)) $(OUT)/libsupra.a
	@echo "  link $@"
	$(quiet)$(CXX) $(LDFLAGS) $(if $(LIBFUZZER),-fsanitize=fuzzer) $(filter %.o,$^) $(OUT)/libsupra.a $(LDLIBS) -o $@

# Installs GoogleTest, and stb for the tests of pictures, with apt if allowed; otherwise prints the command to type.
test-packages:
	@missing='$(strip $(if $(GTEST),,libgtest-dev) $(if $(STB),,libstb-dev))'; \
	[ -z "$$missing" ] && exit 0; \
	sudo=$$([ $$(id -u) = 0 ] || echo 'sudo -n'); \
	get="$$sudo env DEBIAN_FRONTEND=noninteractive apt-get"; \
	if command -v apt-get >/dev/null && $$sudo true 2>/dev/null; then \
	  echo "  apt-get install $$missing"; \
	  $$get install -qq -y $$missing >/dev/null 2>&1 && exit 0; \
	  $$get update -qq && $$get install -qq -y $$missing >/dev/null && exit 0; \
	fi; \
	case $$missing in \
	  *gtest*) echo "The tests need GoogleTest: sudo apt-get install $$missing"; exit 1;; \
	  *) echo "Tests of pictures are skipped: sudo apt-get install $$missing";; \
	esac

# The library for hosts is tested as installed, so not under a sanitizer.
$(OUT)/installed: all amalgamation
	@$(MAKE) --no-print-directory install PREFIX=$@ >/dev/null
.PHONY: $(OUT)/installed

# Only one process can use a GPU at a time.
TEST_PROCESSES ?= $(if $(filter cuda,$(CONFIG)),1,2)
test: $(OUT)/run_tests $(OUT)/run_embed_tests $(OUT)/supra $(if $(filter release,$(CONFIG)),$(OUT)/installed) ## build and run the tests (FILTER='Args.*' runs a part)
	$(quiet)UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 TSAN_OPTIONS=halt_on_error=1 \
	  sh tests/run.sh $(TEST_PROCESSES) $(OUT)/run_tests $(OUT)/run_embed_tests -- $(if $(FILTER),--gtest_filter="$(FILTER)")

PYTHON ?= python3
transformers-check: all ## compare the result of convert --to transformers with the program; PYTHON needs torch and transformers (WORDS='gated window')
	$(quiet)if command -v $(PYTHON) >/dev/null; then $(PYTHON) tests/supra/formats/transformers_check.py $(OUT)/supra $(SHARED) $(WORDS); \
	else echo 'SKIPPED transformers-check: there is no $(PYTHON)'; fi

cuda: ## build the program with its GPU kernels (sm_80, sm_90): build/cuda/supra
	@$(MAKE) --no-print-directory CONFIG=cuda all

cuda-report: ## print registers, spills and shared memory of every GPU kernel; fails if one spills
	@$(MAKE) --no-print-directory CONFIG=cuda $(CU:%=$(BUILD)/cuda/objects/%.o)
	@! grep -Hn '<<<' $(CU) $(wildcard tensor/*.cuh kernels/*.cuh) || { echo 'kernels are launched by launch()'; exit 1; }
	@{ cat $(CU:%=$(BUILD)/cuda/objects/%.log); \
	   grep -haoE '\.entry \w+|\.maxntid [0-9, ]+|\b(atom|red)\.[a-z0-9.:]*\.(f16|bf16|f32|f64)[a-z0-9]*' \
	     $(CU:%=$(BUILD)/cuda/objects/%.o); } | c++filt -p | awk -f tools/build/cuda_report.awk

emu: ## run the tests of the GPU kernels on the emulator (CONFIG=asan, CONFIG=ubsan: under a sanitizer)
	@$(MAKE) --no-print-directory test FILTER='$(or $(FILTER),Cuda*)'

gpu-check: ## on a machine with a GPU: build, test and measure, in ten minutes; prints a table at the end
	+@MAKE='$(MAKE)' BUILD='$(BUILD)' tools/bench/gpu_check.sh

demo: all ## convert, train and compare a small model, in under three minutes on two cores
	$(quiet)$(OUT)/supra demo

lab: all ## train students with all recipes and mixers on one teacher, into build/lab (half an hour; LAB='--tokens 3M --seeds 3')
	$(quiet)$(OUT)/supra lab $(LAB)

# Unless STUDY names a teacher: SmolLM2 if it and the texts are on the machine, otherwise the lab's teacher. The test text also judges stages.
SHARED      := $(or $(SUPRA_SHARED),../shared)
WIKITEXT    := $(SHARED)/data/wikitext-2
SMOLLM2     := $(wildcard $(or $(SUPRA_SMOLLM2),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/supra/SmolLM2-135M-Instruct.Q4_1.gguf))
STUDY_MODEL := $(if $(and $(SMOLLM2),$(wildcard $(WIKITEXT))),--teacher $(SMOLLM2) --tokens 100k --data $(WIKITEXT)/wikitext2_train_5k.txt \
               --valid $(WIKITEXT)/valid.txt --test $(WIKITEXT)/valid.txt --docs '' --tasks $(SHARED)/eval)
study: all ## the same with the options of the paper's ablations, compared, into build/study (STUDY='--budget 30m')
	$(quiet)$(OUT)/supra lab --study -o build/study $(if $(findstring --teacher,$(STUDY)),,$(STUDY_MODEL)) $(STUDY)

teacher: all ## train the demo's teacher again, into tools/demo/teacher
	$(quiet)$(OUT)/supra demo --make-teacher

asan ubsan tsan: ## run the tests under a sanitizer: addresses, undefined behaviour, threads
	@$(MAKE) --no-print-directory CONFIG=$@ test

fuzz: ## fuzz every parser with malformed files under sanitizers, FUZZ_SECONDS=60 in all (FUZZ=json: one parser)
	@$(MAKE) --no-print-directory CONFIG=fuzz $(BUILD)/fuzz/fuzz_parsers
	$(quiet)$(BUILD)/fuzz/fuzz_parsers $(or $(FUZZ_SECONDS),60) $(FUZZ)

loc: ## count lines of code by group, without tests; fails if a group is above its ceiling
	@for folder in $(FOLDERS); do find $$folder -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh'; done | sort | xargs wc -l | awk -f tools/build/loc.awk

# Layout of the lines changed since the last commit: advice, nothing is rewritten. .clang-format leaves line breaks to the author (up to 140 columns).
LAYOUT = git clang-format -q --diff HEAD -- $(FOLDERS) tests
# Tests from every folder that take seconds in all; the whole suite takes minutes.
QUICK := Tensor*:Autograd*:Gradcheck*:Norm*:Rope*:Adamw*:CrossEntropy*:Table/Op.gradient_agrees*:Json*:Safetensors*:Args*:Reading*
check: ## before a commit: layout of changed lines (advice), lines by group, warnings, quick tests; under a minute once the tests are built
	@if git clang-format -h >/dev/null 2>&1; then diff=$$($(LAYOUT)); \
	  [ -z "$$diff" ] || { echo "$$diff"; echo 'layout: clang-format would change these lines (advice, not an error)'; }; \
	else echo 'layout is not checked: there is no git-clang-format (apt-get install clang-format)'; fi
	@$(MAKE) --no-print-directory loc
	@$(MAKE) --no-print-directory WERROR=-Werror $(OUT)/supra $(OUT)/run_tests
	$(quiet)$(OUT)/run_tests --gtest_brief=1 --gtest_filter='$(QUICK)'

format: ## apply .clang-format to every source file
	@find $(FOLDERS) tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | xargs clang-format -i

help: ## print this list
	@sed -n 's/^\([a-z][a-z -]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 26

clean: ## remove everything that was built
	rm -rf $(BUILD)

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
