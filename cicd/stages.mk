##@ The delivery pipeline, a stage at a time
# What the delivery pipeline does: buildspec.yml calls `make delivery-{phase}`, and TARN_STAGE says in which stage.
# `make delivery TARN_STAGE=check` runs a stage's phases one after the other, as CodeBuild does.

STAGES := check diff deploy smoke
PHASES := install pre-build build post-build
ENVIRONMENT = $(or $(TARN_ENVIRONMENT),$(error TARN_ENVIRONMENT is not set: which environment?))
WHAT_WAS_TESTED := build/tested.sha256

# On an account each stage takes its own role in the target account, by an ordinary AWS profile, so that boto3, sam and
# the AWS CLI renew it alike. Without TARN_ROLE_ARN (a laptop, GitHub Actions) the session's own credentials serve.
ifneq ($(TARN_ROLE_ARN),)
%-build %-post-build: export AWS_CONFIG_FILE := $(CURDIR)/build/aws_config
%-build %-post-build: export AWS_PROFILE := target
endif

# What nobody has approved yet goes to a prefix of its own, and so does what a team uploads.
TEAM_PREFIX := $(addprefix /,$(TARN_TEAM))
diff-build: export TARN_PACKAGE_PREFIX ?= diff$(TEAM_PREFIX)
deploy-build: export TARN_PACKAGE_PREFIX := packages$(TEAM_PREFIX)
diff-build deploy-build: export TARN_ASSET_PREFIX := assets$(TEAM_PREFIX)

.PHONY: delivery
delivery: ## Run one stage of the delivery pipeline (TARN_STAGE=check|diff|deploy|smoke)
	@for phase in $(PHASES); do $(MAKE) --no-print-directory delivery-$$phase || exit 1; done

.PHONY: $(PHASES:%=delivery-%)
$(PHASES:%=delivery-%): delivery-%: needs-stage
	@$(MAKE) --no-print-directory $(TARN_STAGE)-$*

.PHONY: needs-stage
needs-stage:
	@$(if $(filter $(STAGES),$(TARN_STAGE)),:,echo "make: TARN_STAGE is '$(TARN_STAGE)': it can be $(STAGES)" >&2; exit 1)

# check: nothing of an account

.PHONY: check-install
check-install: setup

.PHONY: check-pre-build
check-pre-build: build

.PHONY: check-build
check-build: export PYTEST_ADDOPTS := --junitxml=build/reports/check.xml
check-build: check

.PHONY: check-post-build
check-post-build: no-changes
	@cd build && sha256sum dependencies.zip > $(notdir $(WHAT_WAS_TESTED))

# diff: what a deployment would change, in words; changes nothing

.PHONY: diff-install
diff-install: .venv/.ready .venvs/sam/.ready $(if $(filter cloudformation,$(TARN_ROUTE)),.venvs/awscli/.ready) jars

.PHONY: diff-pre-build
diff-pre-build: target-profile what-was-tested

.PHONY: diff-build
ifeq ($(TARN_TEAM),)
diff-build: diff-lake
else
diff-build: diff-team
endif

.PHONY: diff-lake
diff-lake:
	@$(BIN)/tarn diff $(ENVIRONMENT) --quality $(QUALITY) > build/diff.txt || { cat build/diff.txt; exit 1; }
	@cat build/diff.txt

# An approval shows at most 1,000 characters; the link beside them leads to the whole text.
.PHONY: diff-post-build
diff-post-build:
	@head -c 600 build/diff.txt | tr '\n' ' ' > build/changes.txt

# deploy: prints what it will change, and changes it. `tarn` reads TARN_ROUTE, here and in the diff.

.PHONY: deploy-install
deploy-install: diff-install

.PHONY: deploy-pre-build
deploy-pre-build: diff-pre-build

.PHONY: deploy-build
ifeq ($(TARN_TEAM),)
deploy-build: deploy-lake
else
deploy-build: deploy-team
endif

.PHONY: deploy-lake
deploy-lake:
	@$(BIN)/tarn deploy --environment $(ENVIRONMENT) --quality $(QUALITY)

# A team's own push: its pipelines and then its datasets, each a stack of its own.
OF_THE_TEAM = $(foreach one,$(or $(TARN_PIPELINES),$(error TARN_PIPELINES is not set: which pipelines of team $(TARN_TEAM)?)),pipeline/$(one)) \
  $(patsubst datasets/$(TARN_TEAM)/%/template.yaml,dataset/%,$(wildcard datasets/$(TARN_TEAM)/*/template.yaml))
EACH_OF_THE_TEAM = for one in $(OF_THE_TEAM); do \
  set -- --quality $(QUALITY) --layer $${one%/*} --team $(TARN_TEAM) --$${one%/*} $${one\#*/};

.PHONY: diff-team
diff-team:
	@: > build/diff.txt
	@$(EACH_OF_THE_TEAM) $(BIN)/tarn diff $(ENVIRONMENT) "$$@" >> build/diff.txt || { cat build/diff.txt; exit 1; }; done
	@cat build/diff.txt

.PHONY: deploy-team
deploy-team:
	@$(EACH_OF_THE_TEAM) $(BIN)/tarn deploy --environment $(ENVIRONMENT) "$$@" || exit 1; done

.PHONY: deploy-post-build
deploy-post-build: no-changes

# smoke: a real file through the lake that was deployed

.PHONY: smoke-install
smoke-install: .venv/.ready

.PHONY: smoke-pre-build
smoke-pre-build: target-profile

.PHONY: smoke-build
smoke-build:
	@$(BIN)/python -m tarn.smoke $(ENVIRONMENT)

.PHONY: smoke-post-build
smoke-post-build: no-changes

.PHONY: target-profile
target-profile:
	@mkdir -p build
ifneq ($(TARN_ROLE_ARN),)
	@printf '%s\n' '[profile target]' 'role_arn = $(TARN_ROLE_ARN)' 'external_id = $(TARN_EXTERNAL_ID)' \
	  'credential_source = EcsContainer' 'role_session_name = tarn-delivery' > build/aws_config
endif

# What the stage check built and tested is what this stage deploys, byte by byte.
.PHONY: what-was-tested
what-was-tested:
	@cd build && sha256sum --quiet --check $(notdir $(WHAT_WAS_TESTED))

.PHONY: no-changes
no-changes:
	@: > build/changes.txt
