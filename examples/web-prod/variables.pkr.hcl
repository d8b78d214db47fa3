variable "image_version" {
  type        = string
  default     = "1.0.0"
  description = "Version of the image. It is in the file name, the manifest, /etc/ingot-release and the page."

  validation {
    condition     = can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+(-[0-9A-Za-z.-]+)?$", var.image_version))
    error_message = "The image version must be three numbers, such as 1.4.0, or 1.4.0-rc.1."
  }
}

variable "base_image" {
  type        = string
  default     = ""
  description = "Disk image to start from: a path or a URL. By default the one made by examples/base."
}

variable "base_checksum" {
  type        = string
  default     = ""
  description = "Checksum of the base image: \"sha256:…\", \"file:…\" for a file of checksums, or \"none\". By default the file beside the image of examples/base, and none for another base."

  validation {
    condition     = can(regex("^($|none$|file:|(md5|sha1|sha224|sha256|sha384|sha512):)", var.base_checksum))
    error_message = "The checksum must be \"none\", or begin with its kind (sha256:) or with file:."
  }
}

variable "site_name" {
  type        = string
  default     = "web-prod"
  description = "What the site calls itself."

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$", var.site_name))
    error_message = "The site name must be 1 to 63 letters, digits, blanks, dots, dashes or underscores."
  }
}

variable "metrics_from" {
  type        = list(string)
  default     = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
  description = "Networks from which the metrics may be read."

  validation {
    condition     = length(var.metrics_from) > 0 && alltrue([for n in var.metrics_from : can(cidrnetmask(n))])
    error_message = "The networks must be IPv4 networks, such as 10.0.0.0/8, and at least one."
  }
}

variable "memory" {
  type        = number
  default     = 1024
  description = "Memory of the machine that bakes, in MiB."

  validation {
    condition     = var.memory >= 512
    error_message = "Debian needs 512 MiB at least."
  }
}

variable "cpus" {
  type        = number
  default     = 2
  description = "Processors of the machine that bakes."

  validation {
    condition     = var.cpus >= 1 && var.cpus <= 64
    error_message = "The machine can have 1 to 64 processors."
  }
}

variable "output_directory" {
  type        = string
  default     = "output-web-prod"
  description = "Where the image, its checksum and its manifest are put."
}

variable "region" {
  type        = string
  default     = "us-east-1"
  description = "Region in which the AMI is baked."
}

variable "copy_regions" {
  type        = list(string)
  default     = ["us-west-2", "eu-west-1"]
  description = "Regions that get a copy of the AMI."
}

variable "instance_type" {
  type        = string
  default     = "t3.small"
  description = "Instance type that bakes the AMI: one for x86_64."
}

variable "ami_manifest" {
  type        = string
  default     = "output-web-prod-ami.json"
  description = "Where the manifest of the AMI and its copies is put."
}
