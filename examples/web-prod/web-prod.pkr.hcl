# A web server as it goes into production. See README.md.

packer {
  required_plugins {
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.0.0"
    }
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3.0"
    }
  }
}

locals {
  base_image = var.base_image != "" ? var.base_image : "${path.root}/../../.ingot/base/debian-12-amd64.qcow2"
  checksum   = var.base_checksum != "" ? var.base_checksum : var.base_image != "" ? "none" : "file:${local.base_image}.sha256"
  image_name = "web-prod-${var.image_version}"

  tags = {
    name                = "web-prod"
    version             = var.image_version
    architecture        = "x86_64"
    virtualization_type = "hvm"
    base                = basename(local.base_image)
  }

  # The scripts run as root: at once, or through sudo where the login is another.
  as_root = {
    qemu       = "chmod +x {{ .Path }}; {{ .Vars }} {{ .Path }}"
    amazon-ebs = "chmod +x {{ .Path }}; {{ .Vars }} sudo -E {{ .Path }}"
  }
}

source "qemu" "web" {
  disk_image       = true
  iso_url          = local.base_image
  iso_checksum     = local.checksum
  skip_resize_disk = true
  format           = "qcow2"
  disk_discard     = "unmap"

  memory   = var.memory
  cpus     = var.cpus
  headless = true

  output_directory = var.output_directory
  vm_name          = "${local.image_name}.qcow2"

  ssh_username     = "root"
  ssh_timeout      = "10m"
  shutdown_timeout = "5m"
}

# Debian's own image, with its user admin. With `ingot build -local` it is the
# one of examples/base, and nothing leaves this machine.
source "amazon-ebs" "web" {
  region        = var.region
  ami_regions   = var.copy_regions
  instance_type = var.instance_type

  source_ami_filter {
    filters = {
      name                = "debian-12-amd64-*"
      architecture        = "x86_64"
      virtualization-type = "hvm"
      root-device-type    = "ebs"
    }
    owners      = ["136693071363"]
    most_recent = true
  }

  ami_name        = local.image_name
  ami_description = "${var.site_name} ${var.image_version}, a web server on Debian"
  tags = {
    Name    = "web-prod"
    Version = var.image_version
    Base    = "{{ .SourceAMIName }}"
  }

  ssh_username = "admin"
  ssh_timeout  = "10m"
}

build {
  name    = "web-prod"
  sources = ["source.qemu.web", "source.amazon-ebs.web"]

  provisioner "shell" {
    script          = "${path.root}/scripts/packages.sh"
    execute_command = local.as_root[source.type]
  }

  provisioner "file" {
    source      = "${path.root}/files/"
    destination = "/tmp"
  }

  provisioner "shell" {
    scripts = [
      "${path.root}/scripts/site.sh",
      "${path.root}/scripts/firewall.sh",
      "${path.root}/scripts/upgrades.sh",
      "${path.root}/scripts/release.sh",
    ]
    execute_command = local.as_root[source.type]
    env = {
      IMAGE_NAME          = local.tags.name
      IMAGE_VERSION       = local.tags.version
      IMAGE_BASE          = try(build.SourceAMIName, local.tags.base)
      ARCHITECTURE        = local.tags.architecture
      VIRTUALIZATION_TYPE = local.tags.virtualization_type
      SITE_NAME           = var.site_name
      METRICS_FROM        = join(", ", var.metrics_from)
    }
  }

  provisioner "shell" {
    script          = "${path.root}/scripts/clean.sh"
    execute_command = local.as_root[source.type]
  }

  post-processor "checksum" {
    only           = ["qemu.web"]
    checksum_types = ["sha256"]
    output         = "${var.output_directory}/${local.image_name}.{{.ChecksumType}}"
  }

  post-processor "manifest" {
    only        = ["qemu.web"]
    output      = "${var.output_directory}/manifest.json"
    strip_path  = true
    custom_data = local.tags
  }

  post-processor "manifest" {
    only        = ["amazon-ebs.web"]
    output      = var.ami_manifest
    custom_data = { name = "web-prod", version = var.image_version }
  }
}
